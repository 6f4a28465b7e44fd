"""The command that registers a Hugging Face checkpoint: no settings, no data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows import direct, report
from flows.options import work_option

if TYPE_CHECKING:
    from pipeline.import_hf import Imported


@click.command("import-hf")
@click.argument("source", metavar="DIR")
@click.option("--name", default="captioner", show_default=True, help="The model's name.")
@click.option(
    "--alias",
    default="auto",
    show_default=True,
    metavar="ALIAS",
    help="What to point at it; auto: champion if there is none yet; none: nothing.",
)
@work_option
def import_hf(source: str, name: str, alias: str, work: Path) -> None:
    """Register a Hugging Face checkpoint as a captioner.

    DIR is what save_pretrained wrote, tokenizer and image processor included, of a
    VisionEncoderDecoderModel (ViT or DeiT with GPT-2) or a BlipForConditionalGeneration; or
    OWNER/NAME on the Hugging Face hub, with @REVISION if wanted.

    \b
    Examples:
      captionmill import-hf my-checkpoint
      captionmill import-hf Salesforce/blip-image-captioning-base --name blip
      captionmill import-hf my-checkpoint --alias champion
    """
    with direct.uninterrupted():
        from pipeline.import_hf import import_hf as stage

    click.echo(about_import(stage(source, work, name=name, alias=alias)))


def about_import(record: Imported) -> str:
    """The summary of `import-hf`."""
    version = record.version
    champion = "none" if record.champion is None else f"{version.name}/{record.champion}"
    return report.lines(
        [
            ("registered", version.ref),
            (
                "from",
                f"{version.tags['captionmill.source']} ({version.tags['captionmill.original']})",
            ),
            ("aliases", ", ".join(record.aliases) or f"none; use it as --model {version.ref}"),
            ("champion", champion),
        ]
    )
