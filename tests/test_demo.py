"""`python -m dmask`: its model and its checks, each of which can fail."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import Tensor

import dmask
from compile_checks import audit
from dmask import __main__ as demo
from dmask.demo import report, text, training
from dmask.demo.model import DynamicMaskSelfAttention, LanguageModel, rotary_embedding
from dmask.demo.text import Corpus
from tests.conftest import Mode

QUICK = ["--backend", "aot_eager", "--context", "32", "--window-size", "8"]


def run(*argv: str) -> tuple[int, str, str]:
    """The exit code of the demo and its output."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = demo.main([*QUICK, *argv])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def _less_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens evaluation and sampling, for runs that test other parts."""
    corpus = text.python_reference()
    corpus = Corpus(corpus.train, corpus.held_out[:4000])
    monkeypatch.setattr(text, "python_reference", lambda: corpus)
    monkeypatch.setattr(demo, "SAMPLE_LENGTH", 20)


# ------------------------------------------------------------------ the whole demo


def test_trains_checks_and_reports(tmp_path: Path) -> None:
    code, out, err = run("--steps", "150", "--batch-size", "16", "--output", str(tmp_path))
    assert code == 0, out
    loss = re.search(r"([\d.]+) bits per byte of held-out text before training, ([\d.]+) aft", out)
    assert loss is not None
    before, after = map(float, loss.groups())
    assert before > 7 > 3.6 > after
    assert "graphs compiled: 1 of at most 1, graph breaks: 0, recompiles: 0" in out
    assert "64 masks, 65536 entries compared with topk and scatter inlined: 0 differ" in out
    assert "The mask of layer 1, KV head 0" in out
    assert "#" in out, "the drawn mask"
    assert "The model, after " in out
    assert out.endswith("All checks passed.\n")
    assert len(re.findall(r"step \d+/150", err)) == 10


@pytest.mark.usefixtures("_less_text")
def test_each_failed_check_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_GRAPHS", 0)
    code, out, _ = run("--steps", "0", "--output", str(tmp_path))
    assert code == 1
    assert re.search(r"FAILED: the loss of [\d.]+ bits per byte is not below", out)
    assert "FAILED: graph-budget: 1 graphs compiled, at most 0 expected" in out
    assert "All checks passed" not in out


@pytest.mark.usefixtures("_less_text")
def test_same_seed_same_output(tmp_path: Path) -> None:
    argv = ["--steps", "1", "--output", str(tmp_path), "--seed", "1"]
    code, out, _ = run(*argv)
    assert (code, out.count("FAILED")) == (1, 1), "one step is too little to pass the loss gate"
    assert run(*argv)[:2] == (code, out)


def test_importing_dmask_imports_no_demo() -> None:
    code = "import sys, dmask; print([m for m in sys.modules if 'demo' in m or 'pydoc' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "-1"], "--steps: expected an integer >= 0, got '-1'"),
        (["--steps", "many"], "--steps: expected an integer >= 0, got 'many'"),
        (["--batch-size", "0"], "--batch-size: expected an integer from 1 to 256, got '0'"),
        (
            ["--batch-size", "200", "--context", "200"],
            "--batch-size: batch size * context must be at",
        ),
        (["--context", "1"], "--context: expected an integer from 2 to 2048, got '1'"),
        (["--window-size", "0"], "--window-size: expected an integer >= 1, got '0'"),
        (["--window-size", "32"], "--window-size: must be less than --context 32"),
        (["--backend", "eager"], "--backend: invalid choice: 'eager'"),
        (["--device", "nowhere"], "--device: cannot use 'nowhere': "),
        (["--device", "meta"], "--device: cannot use 'meta': "),
        (["--seed", str(2**63)], "--seed: expected an integer >= 0"),
        (["--output", __file__], "--output: "),
    ],
)
def test_bad_options(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        demo.main([*QUICK, "--output", str(tmp_path), *argv])
    assert exit_info.value.code == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith(f"python -m dmask: error: argument {message}")


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        demo.main(["--help"])
    assert exit_info.value.code == 0
    shown = capsys.readouterr().out
    for name in demo.Options.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown


def test_no_silent_fallback_without_a_compiler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = demo.parse(["--output", str(tmp_path)])
    monkeypatch.setattr(training, "cxx_compiler", lambda: "/usr/bin/g++")
    assert demo.choose_backend(options) == "inductor"
    monkeypatch.setattr(training, "cxx_compiler", lambda: None)
    assert demo.choose_backend(options) == "aot_eager"
    assert "backend aot_eager, fullgraph, on cpu: no C++ compiler found" in capsys.readouterr().out


def test_cxx_compiler_is_the_one_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    assert training.cxx_compiler() == sys.executable
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert training.cxx_compiler() is None


# ------------------------------------------------------------------ the text


def test_unigram_entropy() -> None:
    assert text.unigram_entropy(torch.tensor([7, 7, 7], dtype=torch.uint8)) == 0
    assert text.unigram_entropy(torch.arange(256, dtype=torch.uint8)) == 8
    # Shares of 3/4 and 1/4.
    expected = 0.75 * math.log2(4 / 3) + 0.25 * 2
    assert text.unigram_entropy(torch.tensor([1, 1, 1, 0])) == pytest.approx(expected)


def test_held_out_text_is_not_trained_on() -> None:
    train, held_out = (bytes(part.tolist()).split(b"\n\n") for part in text.python_reference())
    assert len(held_out) > 100
    assert not set(held_out[1:]) & set(train[:-1])


def test_ordered_batches_cover_the_text() -> None:
    content = torch.arange(100, dtype=torch.uint8)
    batches = text.ordered_batches(content, batch_size=3, context=8)
    assert batches.shape == (4, 3, 9)
    assert batches[:, :, 1:].flatten().tolist() == list(range(1, 97))


# ------------------------------------------------------------------ the model


def random_bytes(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0))


def test_model_is_causal(mode: Mode) -> None:
    torch.manual_seed(0)
    model = LanguageModel(context=32, window_size=4)
    tokens = random_bytes(2, 32)
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % 256
    logits, changed_logits = (mode(model)(t) for t in (tokens, changed))
    torch.testing.assert_close(logits[:, :20], changed_logits[:, :20], rtol=0, atol=1e-6)
    assert (logits[:, 20:] != changed_logits[:, 20:]).any(-1).all()


def test_the_whole_model_is_one_graph() -> None:
    model = LanguageModel(context=16, window_size=4)
    result = audit(training.bits_per_byte, (model, random_bytes(2, 17)), backward=True)
    assert (result.findings, result.graphs) == ((), 1)


def test_attention_sees_the_keys_of_the_mask_and_no_others() -> None:
    torch.manual_seed(0)
    length, window_size = 24, 5
    attention = DynamicMaskSelfAttention(16, heads=2, kv_heads=1, window_size=window_size)
    x = torch.randn(1, length, 16, requires_grad=True)
    output, scores = attention(x, rotary_embedding(length, 8))
    mask = report.made_mask(scores.detach(), window_size)[0, 0]
    assert mask.sum(-1).tolist() == [min(q + 1, window_size) for q in range(length)]
    for q in range(length):
        (gradient,) = torch.autograd.grad(output[0, q].square().sum(), x, retain_graph=True)
        # The query comes from byte q, whether it is kept as a key or not.
        seen = mask[q] | (torch.arange(length) == q)
        assert (gradient[0] != 0).any(-1).tolist() == seen.tolist()


def test_scores_learn() -> None:
    torch.manual_seed(0)
    model = LanguageModel(context=16, window_size=4)
    training.bits_per_byte(model, random_bytes(2, 17)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    for scores in model.scores(random_bytes(2, 16)):
        assert scores.shape == (2, 2, 1, 16)
        assert not scores.requires_grad


# ------------------------------------------------------------------ the report


def layers() -> list[Tensor]:
    # Multiples of one half, so that rows tie.
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 2, 1, 20, generator=generator).mul(4).round() / 2 for _ in range(2)]


def test_parity_counts_masks_entries_and_ties() -> None:
    rows = report.compare(layers(), window_size=5)
    assert [row[:5] for row in rows] == [
        (layer, head, 3, 3 * 20 * 20, 0) for layer in range(2) for head in range(2)
    ]
    assert all(0 < row.tied_rows < 3 * 20 for row in rows)
    distinct = torch.arange(20.0).view(1, 1, 1, 20)
    assert report.compare([distinct], window_size=5)[0].tied_rows == 0


def test_parity_finds_a_planted_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    create_mask = dmask.create_mask

    def wrong_in_one_entry(*args: object) -> Tensor:
        mask = create_mask(*args)
        mask[0, 1, 19, 3] ^= True
        return mask

    monkeypatch.setattr(dmask, "create_mask", wrong_in_one_entry)
    assert [row.differing for row in report.compare(layers(), window_size=5)] == [0, 1, 0, 1]
    options = demo.parse([*QUICK, "--output", str(tmp_path)])
    failures = demo.check_masks(options, text.python_reference(), LanguageModel(32, 8))
    assert list(failures) == ["2 of 32768 mask entries differ from the inlined path"]


def test_table_lines_up() -> None:
    lines = report.table(report.compare(layers(), window_size=5)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[:5] == ["0", "0", "3", "1200", "0"]


def test_draw_shades_by_density() -> None:
    mask = torch.zeros(4, 8, dtype=torch.bool)
    mask[:, 0] = True
    mask[0, 4] = True
    mask[3, 6:] = True
    # Two rows of four characters, each of two queries and two keys.
    assert report.draw(mask, columns=4) == "▒ ░\n▒  ▒"
    assert report.draw(mask, columns=4, shades=report.ASCII_SHADES) == ": .\n:  :"
    assert report.draw(torch.ones(3, 1, dtype=torch.bool)) == "█"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "no-such-encoding", None])
def test_shades_fit_the_encoding(encoding: str | None) -> None:
    assert report.shades_for(encoding) == report.ASCII_SHADES
    assert report.shades_for("utf-8") == report.SHADES


def test_saves_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    masks = [torch.ones(2, 8, 8, dtype=torch.bool).tril() for _ in range(2)]
    path = report.save_picture(masks, tmp_path)
    assert path == tmp_path / "masks.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_picture_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert report.save_picture([torch.ones(1, 2, 2, dtype=torch.bool)], tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_readable_escapes_what_a_terminal_would_act_on() -> None:
    assert report.readable(b"a \x1b[1m\n\xe2") == "a \\x1b[1m\n\\xe2"


# ------------------------------------------------------------------ progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "lines", "updates"), [(io.StringIO(), 10, 10), (Terminal(), 1, 25)]
)
def test_progress(stream: io.StringIO, lines: int, updates: int) -> None:
    progress = training.Progress(25, stream)
    for done in range(1, 26):
        progress.show(done, torch.tensor(2.5))
    shown = stream.getvalue()
    assert shown.count("\n") == lines
    assert shown.count("2.500 bits/byte") == updates
    assert f"[{'#' * 20}] step 25/25" in shown
    assert ("\r" in shown) == stream.isatty()


def test_learning_rate_rises_then_falls() -> None:
    rates = [training.learning_rate(step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(training.LEARNING_RATE)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert training.learning_rate(0, 1) <= training.LEARNING_RATE
