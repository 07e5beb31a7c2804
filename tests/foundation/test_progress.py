"""Progress without a terminal: lines that a log can keep."""

import io

from herd.foundation.progress import Progress


def test_a_task_ends_with_one_line_that_holds_count_rate_and_remark() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.task("pretrain", total=3, unit="steps") as task:
        for _ in range(3):
            task.advance()
        task.note("loss 1.25")
    text = stream.getvalue()
    assert text.startswith("pretrain: 3 of 3 steps, ")
    assert text.rstrip().endswith("steps/s, loss 1.25")
    assert text.count("\n") == 1


def test_track_yields_everything_and_silence_is_silent(capsys) -> None:  # noqa: ANN001
    assert list(Progress.silent().track(range(5), "pages")) == [0, 1, 2, 3, 4]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_markup_in_a_sentence_is_printed_as_it_is() -> None:
    stream = io.StringIO()
    Progress(stream).say("[3/9] corpus: [bold]kept[/bold]")
    assert stream.getvalue() == "[3/9] corpus: [bold]kept[/bold]\n"
