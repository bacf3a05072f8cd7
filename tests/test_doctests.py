"""Every example in a docstring, run, and every public function that must have one."""

import doctest
import importlib
import inspect
import pkgutil

import jax
import pytest

import cardiojax

MODULES = sorted(m.name for m in pkgutil.walk_packages(cardiojax.__path__, "cardiojax."))
PACKAGES = sorted(m.name for m in pkgutil.iter_modules(cardiojax.__path__) if m.ispkg and m.name != "cli")

#: Public functions without an example, most of which the tests of the README and of the command line run.
EXEMPT = {
    "need a trained model and a recording": {
        *("analysis.analyze", "analysis.make_segment", "analysis.make_pair_segment", "evaluation.evaluate"),
        *("analysis.make_crisp_estimator", "study.analyze_study", "study.assess_quality"),
        *("correction.make_anatomical_corrector", "correction.make_temporal_corrector"),
        *(
            "report.write_report",
            "report.write_study",
            "report.to_dict",
            "report.study_to_dict",
            "report.to_row",
            "report.to_frame",
            "evaluation.ejections",
            "evaluation.format_clinical",
        ),
    },
    "need data and minutes": {
        *("recipes.adapt", "recipes.build_bank", "recipes.train_crisp", "recipes.train_nnunet", "recipes.train_unet"),
        *("recipes.train_vae", "recipes.train_view", "recipes.run"),
    },
    "need a checkpoint of another project": {"zoo.convert", "zoo.fetch", "zoo.load_original"},
    "write or read a program, which takes long to compile": {
        *(
            "zoo.export_model",
            "zoo.export_network",
            "zoo.export_program",
            "zoo.export_segmentation",
            "zoo.load_exported",
        ),
        *("zoo.network_program", "zoo.sam_program"),
        *("zoo.read_export_metadata", "zoo.save_exported", "zoo.save_onnx", "zoo.segment_frames"),
    },
    "change the state of the process": {
        *("ops.register_kernels", "runtime.keep_freed_memory", "runtime.set_cache_folder", "runtime.use_every_core"),
        "zoo.register",
    },
    "are parts of a function that has one": {
        *("adaptation.ppo_update", "adaptation.shaped_reward", "anatomy.pixels_of_window", "data.printable"),
        "data.read_index",
    },
}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    jax.clear_caches()  # the programs of all modules take several gigabytes
    assert results.failed == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_have_an_example(package):
    module = importlib.import_module(f"cardiojax.{package}")
    lacking = set()
    for name, value in vars(module).items():
        function = inspect.unwrap(value) if callable(value) else value
        is_ours = inspect.isfunction(function) and function.__module__.startswith(f"cardiojax.{package}")
        if is_ours and not name.startswith("_") and ">>>" not in (function.__doc__ or ""):
            lacking.add(f"{package}.{name}")
    exempt = {name for names in EXEMPT.values() for name in names if name.startswith(f"{package}.")}
    assert lacking == exempt
