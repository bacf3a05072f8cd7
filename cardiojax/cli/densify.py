"""``cardiojax densify``: fills a bank with codes of anatomically valid shapes, or resumes."""

from typing import Annotated

import tyro

from cardiojax import train
from cardiojax.cli.reporter import bank_progress
from cardiojax.recipes.bank import BuildBankConfig, build_bank
from cardiojax.runtime.devices import use_every_core


def densify(config: Annotated[BuildBankConfig, tyro.conf.arg(name="")]) -> None:
    """Fills a bank of latent codes."""
    use_every_core()
    train.start_processes(config.mesh)
    if not train.is_writer():
        build_bank(config)
        return
    with bank_progress(config.draws.num_codes) as progress:
        bank = build_bank(config, progress=progress)
    counts = bank.progress
    share = counts.num_valid / max(counts.num_drawn, 1)
    sampler = bank.metadata["sampler"]
    print(f"{counts.num_codes} codes, {100 * share:.1f} % of {counts.num_drawn} drawn: {config.out}")
    print(
        f"{100 * counts.acceptance:.1f} % of {counts.num_proposed} proposals accepted, k = {sampler['scale']:.4g}, "
        f"{100 * sampler['mass_exceeded']:.2g} % of the mass above k"
    )
