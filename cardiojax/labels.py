"""The label convention of every mask in the library, after CAMUS, and the names of the views."""

BACKGROUND = 0
LV = 1
MYOCARDIUM = 2
LEFT_ATRIUM = 3

NUM_CLASSES = 4

#: Structures on which the CAMUS tables are scored: the epicardium is cavity and myocardium together.
STRUCTURES: dict[str, tuple[int, ...]] = {
    "lv": (LV,),
    "epicardium": (LV, MYOCARDIUM),
    "left_atrium": (LEFT_ATRIUM,),
}

#: Apical two- and four-chamber view, and everything else.
VIEWS = ("2CH", "4CH", "other")
#: The views that are measured, in the words of a sentence.
VIEW_NAMES = {"2CH": "two-chamber", "4CH": "four-chamber"}
