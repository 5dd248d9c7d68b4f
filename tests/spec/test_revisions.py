"""REV:PATH: what a spec, a plan or a device was at a revision of a git repository."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from command import ask
from goodspec import GOOD

import archcalc
from archcalc.errors import Invalid, Missing
from archcalc.files import git
from archcalc.files.reading import TooSlow
from archcalc.spec.catalogue import find, is_readable
from archcalc.spec.revisions import LONGEST, Revision, on_disk, read_revision, revision
from archcalc.spec.source import LARGEST_FILE

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

ANYBODY = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
CONFIG = '{"model_type": "gpt2", "vocab_size": 10, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}'
PLAN = "schema: 0\ndp: 2\n"


def run(folder, *arguments, **more):
    return subprocess.run(
        ["git", *ANYBODY, *arguments], cwd=folder, check=True, capture_output=True, **more
    ).stdout.decode()


def with_layers(count):
    return GOOD.replace("repeat: 2", f"repeat: {count}")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Neither the settings of whoever runs the tests, nor a repository above the temporary folders."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Two commits, the first of them tagged v1.2; the current folder is its top."""
    top = tmp_path / "top"
    for folder in ("specs", "model", "config", "plans"):
        (top / folder).mkdir(parents=True)
    run(top, "init", "-q", "-b", "main")
    (top / "specs" / "own.yaml").write_text(with_layers(2))
    (top / "model" / "spec.yaml").write_text(with_layers(5))
    (top / "config" / "config.json").write_text(CONFIG)
    (top / "plans" / "two.yaml").write_text(PLAN)
    run(top, "add", ".")
    run(top, "commit", "-qm", "one")
    run(top, "tag", "v1.2")
    (top / "specs" / "own.yaml").write_text(with_layers(3))
    run(top, "commit", "-qam", "two")
    (top / "specs" / "own.yaml").write_text(with_layers(4))
    monkeypatch.chdir(top)
    return top


def refused(spec, kind=Invalid):
    with pytest.raises(kind) as caught:
        find(spec)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("HEAD:specs/own.yaml", 3),
        ("HEAD~1:specs/own.yaml", 2),
        ("HEAD^:specs/own.yaml", 2),
        ("main:specs/own.yaml", 3),
        ("refs/heads/main:specs/own.yaml", 3),
        ("v1.2:specs/own.yaml", 2),
        ("v1.2^{commit}:specs/own.yaml", 2),
        ("@:specs/own.yaml", 3),
        ("HEAD@{0}:specs/own.yaml", 3),
        ("HEAD^{/one}:specs/own.yaml", 2),
        ("main:./specs/own.yaml", 3),
        ("main:specs//own.yaml", 3),
        ("main:model", 5),
        ("main:model/", 5),
        ("main:./model", 5),
        ("main:model//", 5),
        ("main:config", 1),
        ("main:config/config.json", 1),
        ("specs/own.yaml", 4),
    ],
)
def test_a_spec_is_what_the_revision_has(spec, layers):
    assert find(spec).model.n_layers == layers
    assert archcalc.load(spec).n_layers == layers
    assert is_readable(spec)


def test_a_path_with_a_dot_counts_from_the_current_folder(repository, monkeypatch):
    monkeypatch.chdir(repository / "specs")
    for spec in ("HEAD~1:./own.yaml", "HEAD~1:../specs/own.yaml", "HEAD~1:specs/own.yaml"):
        assert find(spec).model.n_layers == 2
    assert refused("HEAD:own.yaml", Missing) == "HEAD:own.yaml: no such file in HEAD; nearest: HEAD:specs/own.yaml"
    assert refused("HEAD:../../own.yaml") == "HEAD:../../own.yaml: leads out of the repository"


def test_a_commit_by_its_hash_is_a_revision(repository):
    name = run(repository, "rev-parse", "HEAD~1").strip()
    assert find(f"{name}:specs/own.yaml").model.n_layers == 2
    assert find(f"{name[:8]}:specs/own.yaml").model.n_layers == 2


@pytest.mark.usefixtures("repository")
def test_a_question_is_asked_of_what_the_revision_has():
    found = find("HEAD~1:specs/own.yaml@d_ff=13, vocab_size=20")
    assert (found.model.n_layers, found.model.vocab_size) == (2, 20)
    assert found.name == "good@d_ff=13,vocab_size=20"
    assert found.document.file == "HEAD~1:specs/own.yaml"
    assert found.folder == find("HEAD:model").folder == ""  # its weights are at no revision
    assert find("HEAD@{0}:model@n_layers=7").model.n_layers == 7
    assert refused("HEAD:specs/own.yaml@d_f=1").startswith("HEAD:specs/own.yaml@d_f=1: d_f: ")


def test_a_path_with_an_at_sign_is_a_path(repository):
    (repository / "a@b.yaml").write_text(with_layers(6))
    run(repository, "add", ".")
    run(repository, "commit", "-qm", "three")
    (repository / "a@b.yaml").unlink()
    assert find("HEAD:a@b.yaml").model.n_layers == 6
    assert find("HEAD:a@b.yaml@n_layers=8").model.n_layers == 8


def test_the_text_model_of_a_config_is_read_at_a_revision(repository):
    (repository / "config" / "config.json").write_text(f'{{"model_type": "odd", "text_config": {CONFIG}}}')
    run(repository, "commit", "-qam", "three")
    assert find("HEAD:config/config.json@part=text").model.n_layers == 1
    assert ask("import", "HEAD:config/config.json", "--part", "text").out.startswith("# imported from config.json;")
    assert ask("import", "HEAD~1:config/config.json").out.startswith("# imported from config.json;")


def test_every_command_takes_it_and_messages_have_the_place(repository):
    (repository / "specs" / "own.yaml").write_text(GOOD.replace("d_head: 2", "d_hed: 2"))
    run(repository, "commit", "-qam", "three")
    line = GOOD.split("\n").index(next(one for one in GOOD.split("\n") if "d_head" in one)) + 1
    for command in ("params", "report", "memory"):
        done = ask(command, "HEAD:specs/own.yaml")
        assert done.code == 2
        assert done.err.startswith(f"HEAD:specs/own.yaml:{line}:")
    assert ask("check", "HEAD:specs/own.yaml").code == 1
    assert ask("check", "HEAD~1:specs/own.yaml").code == 0
    assert ask("check", "HEAD:specs/none.yaml").code == 3
    assert ask("check", "none:specs/own.yaml").code == 2
    assert ask("check", "HEAD:specs").code == 2  # on disk a folder is walked
    assert ask("sweep", "HEAD~1:specs/own.yaml", "--vary", "n_layers=1,2", "-f", "csv").code == 0
    assert archcalc.check("HEAD:specs/own.yaml")[0].file == "HEAD:specs/own.yaml"
    (repository / "model" / "spec.yaml").write_text("a: [")
    run(repository, "commit", "-qam", "four")
    assert refused("HEAD:model").startswith("HEAD:model/spec.yaml:2:1: is not YAML")


def test_plans_and_devices_have_revisions_too(repository):
    (repository / "gpu.yaml").write_text((Path(archcalc.__file__).parents[1] / "specs/hardware/l4.yaml").read_text())
    run(repository, "add", ".")
    run(repository, "commit", "-qm", "three")
    for name in ("plans/two.yaml", "gpu.yaml"):
        (repository / name).unlink()
    done = ask(
        "memory", "HEAD:specs/own.yaml", "--plan", "HEAD:plans/two.yaml", "--device", "HEAD:gpu.yaml", "-f", "json"
    )
    assert (done.code, done.err) == (0, "")
    assert done.json["plan"]["dp"] == 2
    done = ask("memory", "gpt2", "--plan", "HEAD:plans/three.yaml")
    assert done.code == 3
    assert done.err == "HEAD:plans/three.yaml: no such file in HEAD; nearest: HEAD:plans/two.yaml\n"


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("spec", "kind", "line"),
    [
        ("HEAD:specs/owm.yaml", Missing, "no such file in HEAD; nearest: HEAD:specs/own.yaml"),
        ("HEAD:own.yaml", Missing, "no such file in HEAD; nearest: HEAD:specs/own.yaml"),
        ("HEAD:zzzzzzz/q.yaml", Missing, "no such file in HEAD"),
        ("HEAD:specs/own.yaml/x", Missing, "no such file in HEAD"),
        ("mian:specs/own.yaml", Invalid, "unknown revision 'mian'; nearest: main"),
        ("v1.3:specs/own.yaml", Invalid, "unknown revision 'v1.3'; nearest: v1.2"),
        ("HEAD~9:specs/own.yaml", Invalid, "unknown revision 'HEAD~9'; HEAD itself is known"),
        ("qqqqqqqq:x.yaml", Invalid, "unknown revision 'qqqqqqqq'; `git branch --all` and `git tag` list"),
        ("HEAD:specs", Invalid, "is a folder; give the path of a file in it, or a folder with a config.json"),
        ("HEAD:", Invalid, "is a folder; give the path of a file in it, or a folder with a config.json"),
        ("HEAD:.", Invalid, "is a folder; give the path of a file in it, or a folder with a config.json"),
        ("HEAD:/specs/own.yaml", Invalid, "must have a path inside the repository; got '/specs/own.yaml'; leave out"),
        ("HEAD:a/../../own.yaml", Invalid, "leads out of the repository"),
        (":specs/own.yaml", Invalid, "has no revision before the colon; HEAD:specs/own.yaml is"),
        ("--help:x.yaml", Invalid, "is not REV:PATH: git has no such revision; got '--help'"),
        ("-1:x.yaml", Invalid, "is not REV:PATH: git has no such revision; got '-1'"),
        ("^HEAD:x.yaml", Invalid, "unknown revision '^HEAD'"),
        ("HEAD~1..HEAD:x.yaml", Invalid, "unknown revision 'HEAD~1..HEAD'"),
        ("HEAD\x1b[2J:x.yaml", Invalid, "is not REV:PATH: git has no such revision"),
        ("HEAD\n:x.yaml", Invalid, "is not REV:PATH: git has no such revision"),
        ("HEAD:x\x00.yaml", Invalid, "cannot be read: git takes no such name"),
        ("HEAD:\ud800.yaml", Invalid, "cannot be read: git takes no such name"),
        ("HEAD:specs/own.yaml\nHEAD~1:specs/own.yaml", Missing, "no such file in HEAD"),
        ("HEAD:" + "x" * LONGEST + ".yaml", Invalid, "is longer than"),
        ("HEAD:model.safetensors", Invalid, "is a safetensors file and not a spec"),
    ],
)
def test_what_is_not_there_is_one_line_with_what_would_be_right(spec, kind, line):
    said = refused(spec, kind)
    assert said.isprintable()
    assert said[said.index(": ", min(len(spec), 100)) + 2 :].startswith(line) or f": {line}" in said


@pytest.mark.usefixtures("repository")
def test_a_name_like_a_revision_that_git_does_not_know_is_looked_for_in_the_catalogue():
    assert refused("llama3:8b").startswith("llama3:8b: is not in the catalogue; nearest: ")
    assert refused("main:own", Missing) == "main:own: no such file in main"


def test_the_nearest_files_are_those_of_that_name_and_then_specs(repository):
    for name in ("more.yml", "more.json", "more.txt", "a/quux.yaml", "b/quux.yaml", "c/quux.yaml", "d/quux.yaml"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(GOOD)
    run(repository, "add", ".")
    run(repository, "commit", "-qm", "three")
    said = refused("HEAD:more.yaml", Missing).partition("nearest: ")[2].split(", ")
    assert said[0] == "HEAD:more.yml"
    assert "HEAD:more.txt" not in said
    assert "nearest: HEAD:more.json" in refused("HEAD:more.jso", Missing)
    said = refused("HEAD:quux.yaml", Missing).partition("nearest: ")[2].split(", ")
    assert said == ["HEAD:a/quux.yaml", "HEAD:b/quux.yaml", "HEAD:c/quux.yaml"]


def test_a_new_file_is_told_to_be_on_disk_alone(repository):
    (repository / "new.yaml").write_text(GOOD)
    said = "HEAD:new.yaml: no such file in HEAD, although it is on disk; commit it, or give its path"
    assert refused("HEAD:new.yaml", Missing) == said


def test_a_branch_of_a_remote_is_the_nearest(repository, tmp_path, monkeypatch):
    run(tmp_path, "clone", "-q", "--branch", "v1.2", os.fspath(repository), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    assert refused("main:specs/own.yaml") == "main:specs/own.yaml: unknown revision 'main'; nearest: origin/main"
    assert find("origin/main:specs/own.yaml").model.n_layers == 3


def test_a_shallow_clone_is_told_to_be_one(repository, tmp_path, monkeypatch):
    run(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "clone")
    monkeypatch.chdir(tmp_path / "clone")
    assert find("HEAD:specs/own.yaml").model.n_layers == 3
    assert refused("HEAD~1:specs/own.yaml", Missing) == (
        "HEAD~1:specs/own.yaml: unknown revision 'HEAD~1' in this shallow clone; "
        "`git fetch --unshallow` fetches all, and so does `fetch-depth: 0` of actions/checkout"
    )


def test_without_a_repository_or_a_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused("HEAD:own.yaml") == (
        "HEAD:own.yaml: is REV:PATH, and this folder is not in a git repository; "
        "run it inside one, or give the path of a file"
    )
    run(tmp_path, "init", "-q")
    assert refused("HEAD:own.yaml") == "HEAD:own.yaml: unknown revision 'HEAD': the repository has no commits yet"


@pytest.mark.usefixtures("repository")
def test_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert refused("HEAD:specs/own.yaml", Missing) == "HEAD:specs/own.yaml: needs git, which is not installed"
    assert ask("params", "HEAD:specs/own.yaml").code == 3
    assert refused("llama3:8b").startswith("llama3:8b: is not in the catalogue")


@pytest.mark.usefixtures("repository")
def test_a_git_that_does_not_answer_is_not_waited_for(monkeypatch, tmp_path):
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\n/bin/sleep 60 &\n/bin/sleep 60\n")  # and what it started has its output open
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(slow.parent))
    monkeypatch.setattr(git, "SECONDS", 0.2)
    assert refused("HEAD:specs/own.yaml") == "HEAD:specs/own.yaml: git did not answer within 0.2 seconds"


@pytest.mark.usefixtures("repository")
def test_a_git_that_does_not_stop_talking_is_not_listened_to(monkeypatch, tmp_path):
    loud = tmp_path / "bin" / "git"
    loud.parent.mkdir()
    loud.write_text("#!/bin/sh\nwhile :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done\n")
    loud.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(loud.parent))
    answer = git.ask_git("rev-parse", "HEAD", most=1_000)
    assert len(answer.data) == 1_001


@pytest.mark.usefixtures("repository")
def test_git_is_told_to_ask_nobody_and_to_fetch_nothing(monkeypatch, tmp_path):
    told = tmp_path / "bin" / "git"
    told.parent.mkdir()
    told.write_text('#!/bin/sh\necho "$@"\n/usr/bin/env\necho to nobody >&2\n')
    told.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(told.parent))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    first, *lines = git.ask_git("cat-file", "blob", "x", most=10**6).data.decode().splitlines()
    assert first.endswith(" cat-file blob x")
    assert {"--no-pager", "--literal-pathspecs", f"core.hooksPath={os.devnull}", "core.fsmonitor=false"} <= {
        *first.split()
    }
    assert {
        "GIT_TERMINAL_PROMPT=0",
        "GIT_NO_LAZY_FETCH=1",
        "GIT_ALLOW_PROTOCOL=none",
        "GIT_OPTIONAL_LOCKS=0",
        "LC_ALL=C",
    } <= {*lines}
    assert "to nobody" not in lines
    assert b"to nobody\n" in git.ask_git("x", most=10**6, errors=True).data


def test_a_process_that_git_started_ends_with_it(monkeypatch, tmp_path):
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\n(/bin/sleep 1; echo late > '{tmp_path}/late') &\n/bin/sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(slow.parent))
    monkeypatch.setattr(git, "SECONDS", 0.2)
    with pytest.raises(TooSlow):
        git.ask_git("x", most=10)
    time.sleep(1.2)
    assert not (tmp_path / "late").exists()


# Files on disk, and what is not a revision.


@pytest.mark.parametrize("name", ["HEAD:x.yaml", "HEAD:x", "main:specs"])
def test_a_file_of_exactly_that_name_comes_first(repository, name):
    (repository / name).write_text(with_layers(9)) if "." in name else (repository / name).mkdir()
    if "." not in name:
        (repository / name / "spec.yaml").write_text(with_layers(9))
    assert revision(name) is None
    assert find(name).model.n_layers == 9
    assert find(f"{name}@n_layers=10").model.n_layers == 10


@pytest.mark.parametrize(
    "text",
    ["gpt2", "hf:openai-community/gpt2", "hf:a/b@main", "https://example.com/x.yaml", "/a:b/x.yaml", "./HEAD:x.yaml",
     "../HEAD:x.yaml", "gpt2@name=a:b", "own.yaml@source=a:b", "<stdin>", "-", "HEAD@{10:30}", "a{b:c"],
)  # fmt: skip
def test_these_are_not_revisions(text):
    assert revision(text) is None


def test_a_colon_in_braces_belongs_to_the_revision():
    assert revision("HEAD@{10:30}:a:b") == Revision("HEAD@{10:30}", "a:b")
    assert revision("a@b:c.yaml") == Revision("a@b", "c.yaml")


# What a stranger's repository may have.


def commit_entry(repository, mode, kind, name, content=b""):
    """A commit whose tree has one more entry, without a work tree in which it would need to be possible."""
    made = run(repository, "hash-object", "-w", "--stdin", input=content).strip() if kind == "blob" else kind
    run(repository, "update-index", "--add", "--cacheinfo", f"{mode},{made},{name}")
    run(repository, "commit", "-qm", "more")


def test_a_link_and_a_submodule_are_not_followed(repository):
    commit_entry(repository, "120000", "blob", "link.yaml", b"/etc/passwd")
    commit_entry(repository, "120000", "blob", "linked", b"specs")
    commit_entry(repository, "160000", "1" * 40, "sub")
    assert refused("HEAD:link.yaml") == "HEAD:link.yaml: is a symbolic link; give the path that it leads to"
    assert refused("HEAD:linked") == "HEAD:linked: is a symbolic link; give the path that it leads to"
    assert refused("HEAD:linked/own.yaml", Missing).startswith("HEAD:linked/own.yaml: no such file in HEAD; nearest: ")
    assert refused("HEAD:sub").startswith("HEAD:sub: is a submodule; ")
    commit_entry(repository, "120000", "blob", "odd/config.json", b"/etc/passwd")
    assert refused("HEAD:odd").startswith("HEAD:odd/config.json: is a symbolic link")


def test_a_large_file_is_refused_by_its_size_alone(repository, monkeypatch):
    commit_entry(repository, "100644", "blob", "large.yaml", b"#" * (LARGEST_FILE + 1))
    commit_entry(repository, "100644", "blob", "fits.yaml", GOOD.encode().ljust(LARGEST_FILE, b"\n"))
    commit_entry(repository, "100644", "blob", "huge.yaml", b"#" * (5 * LARGEST_FILE))
    assert find("HEAD:fits.yaml").model.n_layers == 2
    said = "is larger than 1,048,576 bytes, the most that is read"
    assert refused("HEAD:large.yaml") == f"HEAD:large.yaml: {said}"
    asked = []
    real = git.ask_git
    monkeypatch.setattr(git, "ask_git", lambda *words, **more: asked.append(words[0]) or real(*words, **more))
    assert refused("HEAD:huge.yaml") == "HEAD:huge.yaml: is larger than 4,194,304 bytes, the most that is read"
    assert "cat-file" not in asked


ODD = [
    "-x.yaml",
    ":(glob)*.yaml",
    "*.yaml",
    "a\nb.yaml",
    "a\tb.yaml",
    'q"\\.yaml',
    "模型.yaml",
    "a:b.yaml",
    "$(id).yaml",
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_a_name_and_nothing_else(repository, name):
    commit_entry(repository, "100644", "blob", "-x.yaml", GOOD.encode())
    made = run(repository, "hash-object", "-w", "--stdin", input=with_layers(6).encode()).strip()
    line = f"100644 {made} 0\t{name}\0"
    run(repository, "update-index", "-z", "--index-info", input=line.encode())
    run(repository, "commit", "-qm", "odd")
    assert find(f"HEAD:{name}").model.n_layers == 6


@pytest.fixture
def trap(repository, tmp_path, monkeypatch):
    """A repository in which everything that may run a program would leave a mark; the test sees that nothing did."""
    mark, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{mark}'\ncat\n")
    program.chmod(0o755)
    (repository / ".gitattributes").write_text(
        "*.yaml filter=evil diff=evil text eol=crlf working-tree-encoding=UTF-16\n"
    )
    run(repository, "add", ".gitattributes")
    run(repository, "commit", "-qm", "three")
    for key in (
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "diff.evil.command",
        "diff.external", "core.fsmonitor", "core.pager", "pager.cat-file", "pager.ls-tree", "core.editor",
        "core.sshCommand", "core.askPass", "credential.helper", "gpg.program", "alias.cat-file", "alias.rev-parse",
        "core.alternateRefsCommand", "uploadpack.packObjectsHook", "remote.origin.uploadpack",
    ):  # fmt: skip
        run(repository, "config", key, f"!{program}" if key.startswith("alias") else os.fspath(program))
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "fsmonitor-watchman"):
        shutil.copy(program, repository / ".git" / "hooks" / hook)
    for name in ("GIT_PAGER", "PAGER", "GIT_EXTERNAL_DIFF", "GIT_ASKPASS", "GIT_EDITOR"):
        monkeypatch.setenv(name, os.fspath(program))
    mark.unlink(missing_ok=True)
    return mark


@pytest.mark.usefixtures("repository")
def test_nothing_that_the_repository_configures_runs(trap):
    assert find("HEAD~2:specs/own.yaml").model.n_layers == 2
    assert find("HEAD:./specs/own.yaml").model.n_layers == 3
    for spec in ("HEAD:none.yaml", "none:x.yaml", "HEAD:specs", "HEAD~99:x.yaml"):
        refused(spec, (Invalid, Missing))
    assert not trap.exists()
    assert find("HEAD:specs/own.yaml").read.values  # as it was stored: its ends of lines are not turned


def test_what_a_partial_clone_lacks_is_not_fetched(repository, trap, tmp_path, monkeypatch):
    run(repository, "config", "uploadpack.allowFilter", "true")
    run(repository, "config", "--unset", "uploadpack.packObjectsHook")
    run(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{repository}", "clone")
    clone = tmp_path / "clone"
    run(clone, "config", "remote.origin.uploadpack", run(repository, "config", "core.sshCommand").strip())
    trap.unlink(missing_ok=True)
    monkeypatch.chdir(clone)
    before = sorted((clone / ".git" / "objects").rglob("*"))
    said = refused("HEAD:specs/own.yaml", (Invalid, Missing))
    assert "partial clone" in said
    assert "git show HEAD:specs/own.yaml" in said
    assert sorted((clone / ".git" / "objects").rglob("*")) == before
    assert not trap.exists()


def test_a_repository_without_a_work_tree_in_a_folder_is_not_trusted(repository, tmp_path, monkeypatch):
    """It could have come with the files of a pull request, with settings of its own."""
    run(tmp_path, "clone", "-q", "--bare", os.fspath(repository), "bare")
    monkeypatch.chdir(tmp_path / "bare")
    version = tuple(map(int, run(tmp_path, "version").split()[2].split(".")[:2]))
    if version >= (2, 38):
        assert refused("HEAD:specs/own.yaml").startswith(
            "HEAD:specs/own.yaml: cannot be read: git says cannot use bare"
        )
    monkeypatch.setenv("GIT_DIR", os.fspath(tmp_path / "bare"))
    assert find("HEAD:specs/own.yaml").model.n_layers == 3


def test_a_damaged_object_is_one_line(repository):
    name = run(repository, "rev-parse", "HEAD:specs/own.yaml").strip()
    path = repository / ".git" / "objects" / name[:2] / name[2:]
    path.chmod(0o644)
    path.write_bytes(b"nonsense")
    said = refused("HEAD:specs/own.yaml")
    assert said.startswith("HEAD:specs/own.yaml: cannot be read: git says ")
    assert not said.endswith("git says no reason")


@pytest.mark.usefixtures("repository")
def test_a_repository_of_somebody_else_is_told_how_to_trust(monkeypatch):
    """A variable of git's own tests, by which the owner is another."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    said = refused("HEAD:specs/own.yaml")
    assert said.startswith("HEAD:specs/own.yaml: cannot be read: git says detected dubious ownership in repository")
    assert said.endswith("; `git config --global --add safe.directory DIR` trusts it")


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize("inside", [(), ("config.json",)])
def test_a_folder_is_refused_with_what_may_be_read_in_it(inside):
    with pytest.raises(Invalid) as error:
        read_revision(revision("HEAD:plans"), 100, inside)
    more = ", or a folder with a config.json" if inside else ""
    assert str(error.value) == f"HEAD:plans: is a folder; give the path of a file in it{more}"


@pytest.mark.parametrize("name", ["HEAD:specs/own.yaml", "HEAD:./own.yaml", "HEAD:../specs/own.yaml"])
def test_a_file_at_a_revision_is_on_disk_where_git_finds_it(repository, monkeypatch, name):
    """By git's rule a path is from the top of the repository, and from the current folder after ./ or ../."""
    monkeypatch.chdir(repository / "specs")
    for question in ("", "@n_layers=1"):
        assert os.path.samefile(on_disk(name + question), repository / "specs" / "own.yaml")


def test_a_path_from_the_current_folder_is_the_nearest(repository, monkeypatch):
    """A path without ./ is from the top; the file that is meant is the one here, and not all that have its name."""
    (repository / "plans" / "own.yaml").write_text(PLAN)
    run(repository, "add", ".")
    run(repository, "commit", "-qm", "three")
    monkeypatch.chdir(repository / "specs")
    assert refused("HEAD:own.yaml", Missing) == "HEAD:own.yaml: no such file in HEAD; nearest: HEAD:specs/own.yaml"
    monkeypatch.chdir(repository)
    assert refused("HEAD:own.yaml", Missing).endswith("; nearest: HEAD:plans/own.yaml, HEAD:specs/own.yaml")


def test_a_name_on_disk_is_its_own_path_with_an_at_sign_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a@b.yaml").write_text(GOOD)
    assert [on_disk(name) for name in ("a@b.yaml", "c@d.yaml", "x.yaml")] == ["a@b.yaml", "c", "x.yaml"]


def test_commits_without_a_name_are_commits(repository):
    run(repository, "checkout", "-q", "--detach")
    run(repository, "branch", "-D", "main")
    run(repository, "tag", "-d", "v1.2")
    assert refused("qqqq:specs/own.yaml") == (
        "qqqq:specs/own.yaml: unknown revision 'qqqq'; `git branch --all` and `git tag` list those that have a name"
    )
