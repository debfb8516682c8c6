"""Where a unit of work runs. Adding one: a file here with a function open_executor(Pool), and a line in this table."""

from spillover.registry import Registry

EXECUTORS = Registry(
    "executor",
    {
        "local": "spillover.execution.local:open_executor",
        "inline": "spillover.execution.local:open_inline",
        "ray": "spillover.execution.ray:open_executor",
    },
)
