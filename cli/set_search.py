"""`lensqueue sets search`: what of a version is nearest to a text, to a picture, or to one of its items."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from cli.connection import JsonOption, connected
from cli.console import notes
from cli.ending import USAGE, CommandError, print_json
from cli.listing import print_rows

if TYPE_CHECKING:
    from lensqueue_client.sets import SearchOptions

HEADS: Final = ("index", "name", "true label", "score")
MOST: Final = 200


def search(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The id of a sealed version: isv_...")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is to be seen.")] = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="A picture like those, or the id of one: img_...")
    ] = None,
    like: Annotated[
        int | None, typer.Option(metavar="INDEX", min=0, help="Like this item of the version.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help='Turns the text into a prompt: "a photo of a {}".')
    ] = None,
    model: Annotated[str | None, typer.Option(help="Where several have embedded the version.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="So many at most.")] = 20,
    true_label: Annotated[str | None, typer.Option(help="Only items of this true label.")] = None,
    split: Annotated[str | None, typer.Option(help="Only items of this split.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Search a version by the embeddings of a job over it that was summarised; the nearest come first.

    The score is the cosine between the two embeddings.
    """
    if sum(each is not None for each in (text, image, like)) != 1:
        raise CommandError('give one of "text", --image and --like', USAGE)
    options: SearchOptions = {"limit": limit}
    given = {"template": template, "model": model, "true_label": true_label, "split": split}
    for name, value in given.items():
        if value is not None:
            options[name] = value  # type: ignore[literal-required]  # the names of its fields
    with connected(context) as client:
        picture = image if image is None or image.startswith("img_") else Path(image)
        found = client.search(version, text, image=picture, like_index=like, **options)
    if as_json:
        print_json(found.raw)
        return
    rows = [
        (str(each.index), escape(each.custom_id or ""), escape(each.true_label or ""), f"{each.cosine:.4f}")
        for each in found.items
    ]
    print_rows(HEADS, rows)
    if not found.exact:
        notes.print("An index was searched, which may miss some.")
