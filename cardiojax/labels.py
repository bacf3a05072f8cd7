"""Names of structures and views, and the label convention of the library, after CAMUS."""

import dataclasses
import re

BACKGROUND = 0
LV = 1
MYOCARDIUM = 2
LEFT_ATRIUM = 3

NUM_CLASSES = 4

#: Labels are kept in bytes.
_MAX_CLASSES = 256
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclasses.dataclass(frozen=True)
class Structures:
    """What the numbers of a label map mean: label ``i`` is ``names[i]``.

    Three names have a meaning in this library: ``"lv"`` (the cavity of the left ventricle), ``"myocardium"`` (its wall)
    and ``"left_atrium"``. All others are the user's.

    Attributes:
        names: Lower-case words with underscores, ``"background"`` first.

    Raises:
        ValueError: If a name is given twice or is no such word, or the first is another.

    Example:
        >>> Structures(("background", "right_ventricle", "myocardium", "lv")).regions
        {'right_ventricle': (1,), 'epicardium': (3, 2), 'lv': (3,)}
    """

    names: tuple[str, ...]

    def __post_init__(self):
        names = tuple(self.names)
        object.__setattr__(self, "names", names)
        wrong = [name for name in names if not isinstance(name, str) or not _NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"a structure is named by lower-case letters, digits and underscores, got {wrong[0]!r}")
        if not 2 <= len(names) <= _MAX_CLASSES or names[0] != "background" or len({*names}) < len(names):
            raise ValueError(
                f"expected 'background' and 1 to {_MAX_CLASSES - 1} structures, each once, got {', '.join(names)}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """The regions that are scored, by the labels they consist of.

        A region is a structure; the myocardium beside its cavity is scored as the epicardium, which is both.
        """
        regions = {}
        for label, name in enumerate(self.names[1:], 1):
            if name == "myocardium" and "lv" in self.names:
                regions["epicardium"] = (self.names.index("lv"), label)
            else:
                regions[name] = (label,)
        return regions

    def labels_in(self, other: "Structures") -> tuple[int, ...]:
        """The label of each of these structures in another convention, 0 for one that it lacks.

        Example:
            >>> Structures(("background", "myocardium", "lv")).labels_in(CAMUS)
            (0, 2, 1)
        """
        return tuple(other.names.index(name) if name in other.names else BACKGROUND for name in self.names)

    def union(self, *others: "Structures") -> "Structures":
        """These structures and those that only the others have, in order.

        Example:
            >>> Structures(("background", "lv")).union(Structures(("background", "myocardium", "lv"))).names
            ('background', 'lv', 'myocardium')
        """
        names = dict.fromkeys(self.names)
        for other in others:
            names |= dict.fromkeys(other.names)
        return Structures(tuple(names))


#: The structures of CAMUS, whose order is the convention of every function on label maps.
CAMUS = Structures(("background", "lv", "myocardium", "left_atrium"))
#: Structures on which the CAMUS tables are scored: the epicardium is cavity and myocardium together.
STRUCTURES: dict[str, tuple[int, ...]] = CAMUS.regions

#: Apical two- and four-chamber view, which are measured.
MEASURED_VIEWS = ("2CH", "4CH")
#: These, and everything else.
VIEWS = (*MEASURED_VIEWS, "other")
#: The views that are measured, in the words of a sentence.
VIEW_NAMES = {"2CH": "two-chamber", "4CH": "four-chamber"}
#: End-diastole and end-systole.
PHASES = ("ED", "ES")
