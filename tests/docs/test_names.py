"""Names in backticks exist: docstrings, comments and pages keep up with renames.

A span in backticks is checked if it looks like a class (`CamelCase`), a member (`Class.member`) or a call (`name()`).
"""

import ast
import builtins
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lg_streaming"
OTHER_SYSTEMS = {"other-systems.md", "row-by-row.md"}
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.name not in OTHER_SYSTEMS]
FOREIGN = {
    *("CopilotKit", "HttpAgent", "abortRun", "add_langgraph_fastapi_endpoint", "useFrontendTool", "useInterrupt"),
    *("Allow", "Forwarded", "HttpOnly", "Origin", "Referer", "Secure", "Upgrade", "Via"),
    *("BatchSpanProcessor", "ChatOpenAI", "HumanInTheLoopMiddleware", "ProviderStrategy", "QueueListener"),
    *(
        "AsyncSimpleClient",
        "AsyncSqliteSaver",
        "StrictMode",
        "TestScheduler",
        "ThreadPoolExecutor",
        "TodoListMiddleware",
        "ToolStrategy",
    ),
    *("NaN", "Transcript", "get_tracer_provider", "interrupt", "useStreaming", "with_config"),
    # functions of the Vercel AI SDK and assistant-ui
    "addToolOutput",
    "regenerate",
    "resumeStream",
    "sendMessage",
    "useDataStreamRuntime",
}
"""Names of HTTP, of other libraries and of examples."""
SPAN = re.compile(r"(?<!`)`+([^`\n]+?)`+(?!`)")
CLASS = re.compile(r"(?:[a-z_]\w*\.)*(_?[A-Z]\w*[a-z]\w*)(?:\.(\w+))?(?:\(.*\))?")
CALL = re.compile(r"(?:\w+\.)*([a-z_]\w*)\([^()]*\)")


class Names:
    """The names of the library, and the members of its classes."""

    def __init__(self) -> None:
        self.all = {*vars(builtins), *FOREIGN}
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.bases: defaultdict[str, set[str]] = defaultdict(set)
        for path in PACKAGE.rglob("*.py"):
            self.all.add(path.stem)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                self._add(node)
        for path in PACKAGE.rglob("*.[jt]s"):
            self.all.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))

    def _add(self, node: ast.AST) -> None:
        match node:
            case ast.ClassDef():
                self.all.add(node.name)
                self.bases[node.name].update(re.findall(r"\w+", " ".join(map(ast.unparse, node.bases))))
                self.members[node.name].update(defined_in(node))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.all.add(node.name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                self.all.add(name)
            case ast.alias():
                self.all.update((node.asname or node.name).split("."))
            case _:
                pass

    def has_member(self, owner: str, member: str) -> bool:
        """Return whether a class, or a base of it, defines `member`; True for a class with a foreign base."""
        bases = self.bases[owner]
        return (
            member in self.members[owner]
            or any(self.has_member(base, member) for base in bases if base in self.members)
            or any(base in {"BaseException", "Exception", "RunnableLambda", "Enum", "StrEnum"} for base in bases)
        )

    def missing(self, span: str) -> bool:
        """Return whether a span looks like a name of the library and is none."""
        if found := CLASS.fullmatch(span):
            owner, member = found.groups()
            if owner not in self.all:
                return True
            return owner in self.members and member is not None and not self.has_member(owner, member)
        return (found := CALL.fullmatch(span)) is not None and found[1] not in self.all


def defined_in(owner: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(owner):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield name
            case _:
                pass


def prose_of(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(docstring))):
                yield docstring
            case _:
                pass
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.fixture(scope="module")
def names() -> Names:
    return Names()


def test_every_name_in_a_docstring_a_comment_or_a_page_exists(names: Names) -> None:
    sources = [*sorted(PACKAGE.rglob("*.py")), *PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    assert not [
        f"{path.relative_to(ROOT)}: {span}"
        for path in sources
        for text in prose_of(path)
        for span in SPAN.findall(text)
        if names.missing(span)
    ]


@pytest.mark.parametrize("span", ["NoSuchClass", "StreamHub.no_such_method", "no_such_function()", "hub.NoSuchClass"])
def test_a_name_that_does_not_exist_is_found(span: str, names: Names) -> None:
    assert names.missing(span)


@pytest.mark.parametrize(
    "span", ["StreamHub.publish", "Session.close", "current_emitter()", "on_gap", "workflow_start"]
)
def test_a_name_that_exists_and_a_word_are_not(span: str, names: Names) -> None:
    assert not names.missing(span)


def test_the_map_of_a_folder_names_its_modules() -> None:
    for path in sorted(PACKAGE.rglob("__init__.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        heads = set(re.findall(r"^- `(\w+)`", docstring, re.MULTILINE))
        there = {each.stem for each in path.parent.iterdir() if not each.name.startswith("_")}
        assert heads <= there, path
        if heads and path.parent.name != "lg_streaming":
            assert there - {path.parent.name} <= set(re.findall(r"`(\w+)`", docstring)), path
