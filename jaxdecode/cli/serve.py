"""`jaxdecode serve`: a server for clients of OpenAI's interface."""

from dataclasses import asdict, dataclass, field
from typing import Annotated

from tyro.conf import DisallowNone, OmitArgPrefixes, arg, subcommand

from jaxdecode.cli import interrupt, options, output, runtime
from jaxdecode.core.extras import needs


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Answer clients of OpenAI's interface, on this machine.

    POST /v1/completions and /v1/chat/completions (also as streams), GET /v1/models and
    /health. What a request does not say is taken from the options here. SIGTERM or
    Ctrl-C: requests that run are answered, new ones get 503; a second one ends at
    once."""

    model: OmitArgPrefixes[options.ModelOptions] = field(
        default_factory=options.ModelOptions
    )
    sampling: OmitArgPrefixes[options.JointOptions] = field(
        default_factory=options.JointOptions
    )

    host: str = "127.0.0.1"
    """Address to listen on. The default is reached from this machine only; with another
    one, everybody who reaches it may use the model: there are no passwords."""

    port: int = 8000
    """0 takes a free one, which is printed."""

    max_new_tokens: int = 128
    """Write at most this many tokens where a request has no max_tokens."""

    slots: int = 16
    """Texts that are written side by side."""

    length: Annotated[DisallowNone[int | None], arg(help_behavior_hint="(1024)")] = None
    """Most tokens of a prompt and its text together."""

    chunk: int = 4
    """Tokens of each text between two looks: a stream comes in pieces of so many."""

    queue: int = 128
    """Texts that may wait for a slot; more get 429."""

    body_limit: int = 2**20
    """Most bytes of a request."""

    time_limit: float = 600.0
    """Most seconds from a request to the end of its answer."""

    cold: bool = False
    """Compile with the first requests, not before."""


Command = Annotated[Serve, subcommand("serve")]


def run(args: Serve) -> int:
    """Serve until a signal comes."""
    with needs("jaxdecode serve"):
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    runtime.start_jax()
    from jaxdecode.engine import Engine
    from jaxdecode.engine.batch import Defaults
    from jaxdecode.server import Limits, make_app
    from jaxdecode.server.running import bind, is_local
    from jaxdecode.server.running import run as run_app
    from jaxdecode.transforms import chain, joint

    _check_values(args)
    sampler = joint(**asdict(args.sampling))
    limits = Limits(body=args.body_limit, queue=args.queue, seconds=args.time_limit)
    defaults = Defaults(sampling=asdict(args.sampling), max_tokens=args.max_new_tokens)
    with bind(args.host, args.port) as bound:  # before a model is loaded in vain
        lm = runtime.load_model(args.model)
        engine = Engine(lm, slots=args.slots, length=args.length, chunk=args.chunk)
        local = is_local(args.host)
        app = make_app(engine, defaults=defaults, limits=limits, local=local)
        if not args.cold:
            engine.warm_up(sampler=chain(sampler))
        with interrupt.wait_for_python():
            drained = run_app(app, bound, ready=_say_ready)
    if not drained:
        raise KeyboardInterrupt
    return 0


def _say_ready(url: str) -> None:
    output.note(f"jaxdecode: listening on {url}")


def _check_values(args: Serve) -> None:
    for name in ("max_new_tokens", "slots", "chunk"):
        if getattr(args, name) < 1:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must be >= 1, got {getattr(args, name)}.")
    if not 0 <= args.port < 2**16:
        raise ValueError(f"--port must be in [0, 65535], got {args.port}.")
