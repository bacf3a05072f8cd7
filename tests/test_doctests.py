"""Every example in a docstring, run."""

import doctest
import importlib
import pkgutil

import pytest

import cardiojax

MODULES = sorted(m.name for m in pkgutil.walk_packages(cardiojax.__path__, "cardiojax."))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0
