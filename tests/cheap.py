"""How programs compile that only have to be right: the least work for XLA."""

# Without XLA's fusion emitters a program compiles in half the time; one piece of machine
# code, in the order of the program, is the quickest for programs as small as these.
OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_enable_concurrency_optimized_scheduler": False,
}
# The same in the environment of a process that a test starts.
FLAGS = " ".join(f"--{name}={value}".lower() for name, value in OPTIONS.items())
PROCESS = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": FLAGS}
