"""YAML of a configuration: plain values only, in bounded time, with one short message for what cannot be read."""

import re
from pathlib import Path
from typing import Any

import yaml

from race_calc.data.files import read_regular, shortened

LARGEST = 100_000  # bytes; a configuration has one or two thousand


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises what `read_regular` raises, and ValueError with the file for text that is not YAML,
    repeated keys, aliases (`*name`: a few lines can stand for gigabytes) and too deep nesting."""
    text = read_regular(path, LARGEST)
    try:
        return yaml.load(text.decode("utf-8"), Loader=_Loader)
    except RecursionError:
        raise ValueError(f"{path} is not valid YAML: nested too deep") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:  # of values such as !!int x
        raise ValueError(f"{path} is not valid YAML: {shortened(str(error))}") from None


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-2 as a number (YAML 1.1 wants 1.0e-2) and refuses repeated keys and aliases."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, f"*{event.anchor}: write the value out, aliases are not read", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in names:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {shortened(repr(key.value))} is given more than once", key.start_mark
                    )
                names.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))
