"""The backends. Adding one: a file here with a function open(ModelConfig) -> Backend, and a line in this table."""

from spillover.registry import Registry

BACKENDS = Registry(
    "backend", {"hf": "spillover.backends.hf:open_backend", "fake": "spillover.backends.fake:open_backend"}
)
