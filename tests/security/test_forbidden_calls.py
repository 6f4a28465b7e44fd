"""The program's sources hold no call that runs what it reads, or hands a string to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("flows", "pipeline", "docker", ".ci")
    for path in (ROOT / folder).rglob("*.py")
)

IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Modules whose loaders run code."""
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *("os.system", "os.popen", "os.spawnl", "os.spawnv", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "tempfile.mktemp"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader"),
    *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "pandas.read_pickle"),
    *("pd.read_pickle", "shutil.unpack_archive", "mlflow.pytorch.load_model"),
}
EXTRACTS = {"extractall", "extract", "unpack_archive"}
"""Methods that write an archive's members to disk; of other objects they would need another name."""
TRUE_WORDS = {"shell", "allow_pickle", "trust_remote_code"}
LOADERS = {"torch.load", "torch.hub.load_state_dict_from_url", "load_state_dict_from_url"}
"""Unpicklers that must be told to take tensors alone."""


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute or a name; of anything else its last part after a dot."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def is_word(call: ast.Call, word: str, value: bool) -> bool:
    return any(
        keyword.arg == word
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is value
        for keyword in call.keywords
    )


def offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for name in [alias.name for alias in node.names] if module is None else [module]:
                if name.split(".")[0] in IMPORTS:
                    yield f"line {node.lineno}: import {name}"
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        last = name.rpartition(".")[2]
        if isinstance(node.func, ast.Name) and name in NAMES:
            yield f"line {node.lineno}: {name}()"
        if name in CALLS or (isinstance(node.func, ast.Attribute) and last in EXTRACTS):
            yield f"line {node.lineno}: {name}()"
        unpickles = name in LOADERS or last == "load_state_dict_from_url"
        if unpickles and not is_word(node, "weights_only", True):
            yield f"line {node.lineno}: {name}() without weights_only=True"
        for word in TRUE_WORDS:
            # Anything but a literal False might be true one day.
            given = [keyword for keyword in node.keywords if keyword.arg == word]
            if given and not is_word(node, word, False):
                yield f"line {node.lineno}: {name}({word}=...)"


def test_the_sources_are_found() -> None:
    assert len(SOURCES) > 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_runs_what_it_reads(path: Path) -> None:
    assert list(offences(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "torch.hub.load_state_dict_from_url(url)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "os.system(command)",
        "eval(text)",
        "exec(text)",
        "np.load(file, allow_pickle=True)",
        "tarfile.open(path).extractall(target)",
        "archive.extract(member, target)",
        "zipfile.ZipFile(path).extract(member)",
        "shutil.unpack_archive(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_what_is_forbidden_is_found(line: str) -> None:
    assert list(offences(line))


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, map_location='cpu', weights_only=True)",
        "yaml.safe_load(text)",
        "subprocess.run(['ls', path], check=True)",
        "np.load(file, mmap_mode='r')",
        "model.eval()",
        "archive.extractfile(member)",
        "re.compile(text)",
    ],
)
def test_what_is_allowed_is_not(line: str) -> None:
    assert not list(offences(line))
