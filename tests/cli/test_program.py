# SPDX-License-Identifier: BSD-3-Clause
"""The program as a whole: help, pages, exit statuses, terminals, pipes, broken files, speed that does not depend on size."""
import os
import pathlib
import pty
import re
import resource
import shlex
import shutil
import signal
import subprocess
import time

import pytest
from conftest import PROGRAM, ROOT, run, tool

VERBS = re.findall(r"^  (\w+) ", run("--help").out.split("Subcommands:")[1], re.M)
JSON_VERBS = [verb for verb in VERBS if verb != "completion"]


def terminal(*arguments, columns=100, **environment):
    """The program's output on a pseudo-terminal: (stdout and stderr, exit status)."""
    pid, descriptor = pty.fork()
    if pid == 0:
        env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"} | environment
        os.execve(PROGRAM, ["torchkeep", *map(str, arguments)], env)
    import fcntl
    import struct
    import termios
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    output = b""
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    _, status = os.waitpid(pid, 0)
    return output.decode("utf-8", "replace"), os.waitstatus_to_exitcode(status)


def test_help_of_every_verb_has_an_example():
    assert len(VERBS) >= 13
    for verb in VERBS:
        text = run(verb, "--help").out
        assert f"  torchkeep {verb}" in text or f"(torchkeep {verb}" in text, verb


def test_every_example_of_the_help_is_a_command_line_that_parses():
    for verb in VERBS:
        for example in re.findall(r"^  (torchkeep [^\n]*)$", run(verb, "--help").out, re.M):
            words = shlex.split(example.split(">")[0])[1:]
            process = subprocess.run([PROGRAM, *words], capture_output=True, text=True, cwd="/", timeout=60)
            assert "see torchkeep --help" not in process.stderr, (example, process.stderr)


def test_version_is_that_of_the_project():
    version = re.search(r"project\(torchkeep VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert run("--version").out == f"torchkeep {version}\n"


def test_the_documentation_is_what_help_says():
    assert (ROOT / "docs/cli.md").read_text() == run("completion", "markdown").out, (
        "docs/cli.md differs; write it anew: torchkeep completion markdown > docs/cli.md")
    for verb in [[], *([verb] for verb in VERBS)]:
        assert f"```\n{run(*verb, '--help').out}```\n" in (ROOT / "docs/cli.md").read_text(), verb


def test_every_json_schema_is_documented(files, own_run, tmp_path):
    """Each verb's JSON names its schema, and docs/cli-json.md describes each of its members."""
    document = (ROOT / "docs/cli-json.md").read_text()
    checkpoint = files / "checkpoint.pt"
    commands = {
        "ls": [["ls", checkpoint], ["ls", own_run]],
        "show": [["show", checkpoint], ["show", "--hash", "sha256", checkpoint]],
        "verify": [["verify", checkpoint]],
        "diff": [["diff", checkpoint, files / "legacy.pt"]],
        "convert": [["convert", checkpoint, tmp_path / "x.pt"]],
        "extract": [["extract", files / "tensors.pt", "odd", "-o", tmp_path / "x.npy"]],
        "path": [["path", own_run]],
        "pin": [["pin", own_run, 10]],
        "unpin": [["unpin", own_run, 10]],
        "rm": [["rm", "-n", own_run, 10]],
        "prune": [["prune", "-n", own_run]],
        "plot": [["plot", own_run]],
    }
    assert set(commands) == set(JSON_VERBS)
    for verb, calls in commands.items():
        for call in calls:
            found = run(*call, "--json").json
            assert f"`{found['schema']}`" in document, found["schema"]
            section = document.split(f"`{found['schema']}`")[1].split("\n## ")[0]
            for member in found:
                assert member == "schema" or f"`{member}`" in section, (found["schema"], member)


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["ls"], ["ls", "--nothing", "x"], ["show", "a", "b", "c"],
                                       ["ls", "--sort", "colour", "x"], ["convert", "a"], ["ls", "-d", "x", "y"]])
def test_wrong_usage_is_status_2(arguments):
    run(*arguments, status=2)


def test_files_that_cannot_be_read_or_written_are_status_3(files, tmp_path):
    for verb in ("ls", "show", "verify"):
        assert "nothing.pt" in run(verb, tmp_path / "nothing.pt", status=3).err
    run("diff", files / "checkpoint.pt", tmp_path / "nothing.pt", status=3)
    run("convert", files / "model.pt", tmp_path / "no" / "folder.pt", status=3)
    (tmp_path / "text.pt").write_text("<!DOCTYPE html>")
    assert "web page" in run("ls", tmp_path / "text.pt", status=3).err


def test_one_path_that_cannot_be_read_does_not_hide_the_others(files, tmp_path):
    (tmp_path / "empty.pt").write_bytes(b"")
    paths = [tmp_path / "nothing.pt", files / "model.pt", tmp_path / "empty.pt", files / "tied.pt"]
    for verb, text in (("ls", "embedding"), ("verify", "good     " + str(paths[3]))):
        found = run(verb, *paths, status=3, several=True)
        assert text in found.out and "nothing.pt: cannot open" in found.err
    assert run("verify", *paths, "--json", status=3).json["good"] is False
    assert [file["good"] for file in run("verify", *paths, "--json", status=3).json["files"]] == [True, False, True]
    run("verify", *paths[1:], status=1)


def test_a_verb_that_does_not_exist_is_named():
    assert "no verb 'show-all'" in run("show-all", "x", status=2).err


def test_damaged_files_are_status_1(files, tmp_path):
    (tmp_path / "cut.pt").write_bytes((files / "checkpoint.pt").read_bytes()[:5000])
    for verb in ("ls", "show", "verify"):
        process = subprocess.run([PROGRAM, verb, tmp_path / "cut.pt"], capture_output=True, text=True)
        assert process.returncode == 1 and "cut off" in process.stdout + process.stderr


def test_no_input_crashes_the_program(files, tmp_path):
    """Every verb, on files with one byte changed: a plain error or a result, never a signal."""
    data = (files / "tied.pt").read_bytes()
    path = tmp_path / "x.pt"
    for offset in range(0, len(data), 61):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 0xff]) + data[offset + 1:])
        for arguments in (["ls", "--json", path], ["verify", "--repair", "/dev/null/x", path]):
            process = subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=60)
            assert process.returncode in (0, 1, 2, 3), (offset, arguments)


def test_a_reader_that_leaves_is_no_error(tmp_path):
    tool("sparse", tmp_path / "many.pt", 20000, 4)
    for verb in ("ls", "show"):
        line = f"'{PROGRAM}' {verb} '{tmp_path}/many.pt' | head -n 1; echo ${{PIPESTATUS[0]}}"
        process = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        assert process.stdout.endswith("\n0\n") and process.stderr == ""


def test_output_that_cannot_be_written_is_an_error(files):
    with open("/dev/full", "w") as full:
        process = subprocess.run([PROGRAM, "ls", files / "checkpoint.pt"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 3 and "No space left" in process.stderr


def test_colour_is_for_terminals(files):
    path = files / "checkpoint.pt"
    assert "\x1b[" in terminal("ls", path)[0]
    assert "\x1b[" not in run("ls", path).out
    assert "\x1b[" not in terminal("ls", path, NO_COLOR="1")[0]
    assert "\x1b[" not in terminal("ls", path, TERM="dumb")[0]
    assert "\x1b[" not in terminal("ls", "--color", "never", path)[0]
    assert "\x1b[" in run("ls", "--color", "always", path).out
    assert "\x1b[" in run("ls", "--color", "always", path, NO_COLOR="1").out
    assert "\x1b[" not in terminal("ls", "--json", path)[0]


def test_colour_changes_nothing_else(files):
    for verb in (["ls"], ["show"], ["verify"]):
        coloured = run(*verb, "--color", "always", files / "checkpoint.pt").out
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == run(*verb, files / "checkpoint.pt").out


def progress_of(number, *arguments):
    """What the program draws on a terminal until it is killed by this signal."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execve(PROGRAM, ["torchkeep", *map(str, arguments)], os.environ | {"TERM": "xterm"})
    seen = b""
    while b" GB/s" not in seen and b" MB/s" not in seen:
        seen += os.read(descriptor, 4096)
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -number
    return seen


def test_progress_of_long_work_is_drawn_on_terminals_only(tmp_path):
    tool("sparse", tmp_path / "large.pt", 3, 6_000_000_000)
    seen = progress_of(signal.SIGKILL, "verify", "-j", "1", tmp_path / "large.pt")
    assert b"\rchecking" in seen and b" % " in seen and b" left" in seen
    process = subprocess.Popen([PROGRAM, "verify", "-j", "1", tmp_path / "large.pt"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    time.sleep(1.5)
    process.kill()
    out, err = process.communicate()
    assert out == b"" and err == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_file_is_written_leaves_nothing(tmp_path, number):
    tool("sparse", tmp_path / "large.pt", 40, 100_000_000)
    out = tmp_path / "out"
    out.mkdir()
    (out / "there.pt").write_text("old")
    seen = progress_of(number, "convert", "-f", tmp_path / "large.pt", out / "there.pt")
    assert b"\rwriting" in seen and b" left" in seen
    assert os.listdir(out) == ["there.pt"] and (out / "there.pt").read_text() == "old"


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    tool("sparse", tmp_path / "large.pt", 4, 1_000_000)
    out = tmp_path / "out"
    out.mkdir()

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    process = subprocess.run([PROGRAM, "convert", tmp_path / "large.pt", out / "new.pt"], capture_output=True,
                             text=True, preexec_fn=limit)
    assert process.returncode == 3 and process.stderr.count("\n") == 1, process.stderr
    assert os.listdir(out) == []


def test_a_file_may_be_converted_into_its_own_place(files, tmp_path):
    shutil.copy(files / "checkpoint.pt", tmp_path / "a.pt")
    run("convert", tmp_path / "a.pt", tmp_path / "a.pt", status=2)
    run("convert", "-f", tmp_path / "a.pt", tmp_path / "a.pt")
    assert os.listdir(tmp_path) == ["a.pt"]
    run("diff", "-q", files / "checkpoint.pt", tmp_path / "a.pt")


def test_ls_of_a_huge_file_reads_little_of_it(tmp_path):
    tool("sparse", tmp_path / "huge.pt", 1000, 1_000_000_000)  # a terabyte by its length
    process = subprocess.run(["strace", "-f", "-e", "trace=read,pread64", "-o", tmp_path / "trace", PROGRAM, "ls",
                              tmp_path / "huge.pt"], capture_output=True, text=True) if shutil.which("strace") else None
    text = run("ls", tmp_path / "huge.pt").out
    assert "1,000 tensors" in text and "1.00 TB" in text
    if process is not None and process.returncode == 0:
        reads = sum(int(size) for size in re.findall(r"= (\d+)$", (tmp_path / "trace").read_text(), re.M))
        assert reads < 3_000_000


def test_memory_does_not_grow_with_the_tensors(tmp_path):
    tool("sparse", tmp_path / "wide.pt", 2, 400_000_000)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))

    for arguments in (["ls"], ["verify", "-j", "2"], ["show", "--hash", "sha256"], ["diff", tmp_path / "wide.pt"]):
        process = subprocess.run([PROGRAM, arguments[0], *arguments[1:], tmp_path / "wide.pt"], capture_output=True,
                                 text=True, preexec_fn=limit, timeout=300)
        assert process.returncode == 0, (arguments, process.stderr)
    process = subprocess.run([PROGRAM, "convert", tmp_path / "wide.pt", tmp_path / "out.safetensors"],
                             capture_output=True, text=True, preexec_fn=limit, timeout=300)
    assert process.returncode == 0, process.stderr


def complete(*words, cwd=None):
    """What bash offers for the last of these words."""
    script = f"""
source <('{PROGRAM}' completion bash)
PATH="{PROGRAM.parent}:$PATH"
COMP_WORDS=(torchkeep {' '.join(f"'{word}'" for word in words)}); COMP_CWORD={len(words)}
_torchkeep 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=cwd, check=True).stdout.split()


def test_bash_completes_verbs_options_words_files_keys_and_steps(files, own_run):
    assert set(complete("")) == {*VERBS, "--help", "--version"}
    assert complete("ver") == ["verify"]
    assert "--filter" in complete("ls", "--") and "--dry-run" in complete("prune", "--d")
    assert complete("ls", "--sort", "s") == ["size"] and complete("convert", "--to", "") == [
        "pt", "safetensors", "folder"]
    assert complete("ls", "check", cwd=files) == ["checkpoint.pt"]
    assert complete("show", "checkpoint.pt", "model_state_dict.0", cwd=files) == [
        "model_state_dict.0.weight", "model_state_dict.0.bias"]
    assert complete("path", str(own_run), "") == ["last", "best", "10", "20", "30", "40", "50"]


def test_the_manual_page_is_well_formed():
    page = run("completion", "man").out
    for verb in VERBS:
        assert f'.SH "torchkeep {verb}"' in page
    if shutil.which("man"):
        process = subprocess.run(["man", "--warnings", "-l", "-"], input=page, capture_output=True, text=True,
                                 env=os.environ | {"MANROFFOPT": "-ww", "MANWIDTH": "200", "LC_ALL": "C.UTF-8"})
        if "torchkeep" in process.stdout:
            assert process.stderr == ""


def test_the_program_links_no_pytorch():
    linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True).stdout
    assert "torch" not in re.sub(r"\(0x[0-9a-f]+\)", "", linked).replace(str(PROGRAM), "")
    assert not re.search(r"lib(torch|c10)", linked)
