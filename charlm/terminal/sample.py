"""Sampled texts on the terminal, and remarks on them."""

from collections.abc import Sequence

from charlm.api.sampling import Writing
from charlm.inspection.copies import LISTED, LONG, SEED, Copied, apart
from charlm.terminal.console import Writer, print_status, warn
from charlm.terminal.progress import TaskProgress
from charlm.text.display import named
from charlm.text.vocabulary import Vocabulary


def warn_of_unknown(vocabulary: Vocabulary, prompt: str) -> None:
    """Warn of characters of a prompt that the model does not know."""
    if unknown := vocabulary.unknown_in(prompt):
        fate = "read as unknown" if vocabulary.has_unknown else "left out"
        warn(f"not in the vocabulary, so {fate}: {named(unknown)}")


def warn_of_stop(vocabulary: Vocabulary, stop: str) -> None:
    """Warn of a text to stop at that the model cannot write."""
    if unknown := vocabulary.unknown_in(stop):
        warn(f"--stop can never match, since the model cannot write {named(unknown)}")


def write_quietly(writing: Writing) -> None:
    """Write all texts without printing them."""
    with TaskProgress():
        for _ in writing:
            pass


def write(writing: Writing) -> None:
    """Print a text as it is generated, or several once all are complete; then remarks."""
    writer, num = Writer(), len(writing.samples)
    if num == 1:
        writer.write(writing.prompt)
    with TaskProgress(quiet=num == 1 and writing.comes_in_pieces):
        for piece in writing:
            if num == 1:
                writer.write(piece)
    texts = writing.texts
    is_list = writing.writers.loaded.vocabulary.has_end and not any("\n" in t for t in texts)
    for number, text in enumerate(texts if num > 1 else [], start=1):
        writer.write(text if is_list else f"--- {number} of {num} ---\n{text}")
        if is_list and writing.new[number - 1]:
            writer.write_mark("  (new)")
        if is_list:
            writer.write("\n")  # after an empty one, too
        writer.end_line()
    writer.end_line()
    if writing.known is not None:
        novelty(sum(writing.new), num, len(writing.known))
    circles(sum(writing.loops), num)


def novelty(new: int, num: int, known: int) -> None:
    """Print the number of sampled records that no split of the text contains."""
    print_status(
        f"{new:,} of {num:,} new: not one of the {known:,} different records of the text", "aside"
    )


def circles(running: int, num: int) -> None:
    """Print advice if texts run in circles."""
    if running:
        subject = "the text runs" if num == 1 else f"{running:,} of {num:,} texts run"
        print_status(
            f"{subject} in circles: try --repetition-penalty 1.5, or --temperature 1 --min-p 0.05"
        )


def copies(found: Sequence[Copied]) -> None:
    """Print each text's overlap with train: the share of it, and its longest spans."""
    for one in found:
        if not one.spans:
            print_status(f"{one.label} shares no {SEED} characters with train")
            continue
        print_status(
            f"{one.label}: {100 * one.share():.1f} % in spans of {SEED} or more characters that "
            "train "
            f"holds, {100 * one.share(LONG):.1f} % in spans of {LONG} or more"
        )
        for span in apart(list(one.spans), LISTED)[:3]:
            print_status(
                f"  {span.length} at {span.place:,} of train: {one.text_of(span)}", "aside"
            )
