"""A server that clients of OpenAI's interface can talk to, on the engine."""

from jaxdecode.core.extras import needs

with needs("jaxdecode.server"):
    from jaxdecode.server.application import make_app
    from jaxdecode.server.limits import Limits
    from jaxdecode.server.running import run, serving

__all__ = ["Limits", "make_app", "run", "serving"]
