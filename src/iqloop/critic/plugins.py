"""Critics of installed plug-ins: the entry point group ``iqloop.critics``.

An entry point's name is the critic's; it points at a `Critic`, or at a callable that takes options of
`iqloop.critic.known.create_critic` by keyword and returns one::

    [project.entry-points."iqloop.critics"]
    my-critic = "my_package.critic:create"

Nothing of a plug-in is imported before its critic is asked for, so a broken one hurts nobody else.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from iqloop.critic.protocol import Critic
from iqloop.errors import CriticError, IqloopError, UsageError

GROUP = "iqloop.critics"
"""Group of the entry points."""

RUN_OPTIONS = frozenset({"batch_size", "seed"})
"""How a run goes rather than what is asked: a critic that has no use for them is not given them, and nobody objects."""


@dataclass(frozen=True)
class Plugin:
    """A critic that an installed distribution offers."""

    point: EntryPoint

    @property
    def name(self) -> str:
        """The critic's name."""
        return self.point.name

    @property
    def distribution(self) -> str:
        """Who offers it: the name that pip knows."""
        return self.point.dist.name if self.point.dist is not None else "an unknown distribution"

    @property
    def licence(self) -> str:
        """What the distribution's metadata say."""
        fields: Mapping[str, Any] = self.point.dist.metadata.json if self.point.dist is not None else {}
        return str(fields.get("license_expression") or fields.get("license") or "unknown")

    def takes(self, option: str) -> bool:
        """Whether it names ``option`` among what it takes; False for one that does not load: `create` says why."""
        try:
            return option in inspect.signature(self.point.load()).parameters
        except Exception:  # a plug-in is someone else's code and may raise anything
            return False

    def create(self, options: Mapping[str, Any]) -> Critic:
        """Its critic, made with ``options``.

        Raises:
            UsageError: it does not take an option; names it.
            CriticError: it does not load, fails, or is no critic; names the distribution.
        """
        try:
            given = self.point.load()
        except Exception as error:  # a plug-in is someone else's code and may raise anything
            raise self._broken(f"does not load ({type(error).__name__}: {error})") from error
        if isinstance(given, Critic) and not isinstance(given, type):
            self._refuse(set(options) - RUN_OPTIONS)
            return given
        if not callable(given):
            raise self._broken(f"is neither a Critic nor callable, but {type(given).__name__}")
        fitting = self._fitting(given, options)
        try:
            critic = given(**fitting)
        except IqloopError:
            raise
        except Exception as error:
            raise self._broken(f"fails ({type(error).__name__}: {error})") from error
        if not isinstance(critic, Critic) or isinstance(critic, type):
            raise self._broken(f"gives no Critic, but {type(critic).__name__}")
        return critic

    def _fitting(self, factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        try:
            parameters = inspect.signature(factory).parameters.values()
        except (TypeError, ValueError):  # a builtin: it says itself what it does not take
            return dict(options)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return dict(options)
        by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        known = {parameter.name for parameter in parameters if parameter.kind in by_keyword}
        self._refuse(set(options) - known - RUN_OPTIONS)
        return {name: value for name, value in options.items() if name in known}

    def _refuse(self, unknown: set[str]) -> None:
        if unknown:
            raise UsageError(
                f"the critic {self.name} of {self.distribution} takes no option {', '.join(sorted(unknown))}: "
                "leave it out"
            )

    def _broken(self, what: str) -> CriticError:
        return CriticError(
            f"the critic {self.name} ({self.point.value}) of {self.distribution} {what}: "
            f"update that package or remove it"
        )


def plugins(taken: Collection[str]) -> dict[str, Plugin]:
    """The critics of plug-ins by name, sorted, none of them loaded.

    One whose name is in ``taken``, holds ``:`` or a path separator, or is offered twice, is left out with a
    `RuntimeWarning` that says so; of two that share a name the one whose distribution sorts first stays.
    """
    found: dict[str, Plugin] = {}
    offered = (Plugin(point) for point in entry_points(group=GROUP))
    for plugin in sorted(offered, key=lambda plugin: (plugin.name, plugin.distribution)):
        name = plugin.name
        if name in taken:
            reason = "iqloop has a critic of that name"
        elif any(character in name for character in ":/\\"):
            reason = "a name has no : / or \\"
        elif name in found:
            reason = f"{found[name].distribution} offers that name too"
        else:
            found[name] = plugin
            continue
        warnings.warn(
            f"the critic {name!r} of {plugin.distribution} is left out: {reason}", RuntimeWarning, stacklevel=2
        )
    return found
