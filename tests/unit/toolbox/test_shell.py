"""The language of the shell: what POSIX says, run in the module."""

from __future__ import annotations

import pytest

SCRIPTS = {
    "a loop": ("for i in 1 2 3; do echo $i; done", "1\n2\n3\n"),
    "while and arithmetic": ("i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; echo $i", "3\n"),
    "until": ("i=3; until [ $i = 0 ]; do i=$((i-1)); printf %s $i; done", "210"),
    "case": ("case foo.tar.gz in *.zip) echo zip;; *.tar.*) echo tar;; esac", "tar\n"),
    "if": ("if false; then echo a; elif true; then echo b; else echo c; fi", "b\n"),
    "and, or": ("true && echo yes || echo no; false && echo yes || echo no", "yes\nno\n"),
    "a pipe": ("printf 'b\\na\\nc\\n' | sort | head -n 2", "a\nb\n"),
    "a long pipe": ("seq 1000 | grep 7 | grep -v 1 | sort -rn | tail -n 3 | wc -l", "3\n"),
    "a loop at a pipe's end": ("seq 3 | while read n; do echo =$n; done", "=1\n=2\n=3\n"),
    "substitution": ('x=$(echo one; echo two); echo "$x"', "one\ntwo\n"),
    "backquotes": ("echo `echo $(echo deep)`", "deep\n"),
    "a here-document": ("x=5; cat <<E\na $x $((x+1)) $(echo z)\nE\n", "a 5 6 z\n"),
    "a quoted here-document": ("cat <<'E'\n$x `y`\nE\n", "$x `y`\n"),
    "a here-document without tabs": ("cat <<-E\n\t\tin\n\tE\n", "in\n"),
    "a function": (
        "f() { local x=in; echo $x $1 $#; return 3; }; x=out; f a b; echo $? $x",
        "in a 2\n3 out\n",
    ),
    "parameters": ('set -- a \'b c\' d; echo $# "$2"; shift; echo "$@"', "3 b c\nb c d\n"),
    "expansion": ("x=dir/file.txt; echo ${x##*/} ${x%.txt} ${y:-none} ${#x}", "file.txt dir/file none 12\n"),
    "quotes": ("x='a  b'; echo $x \"$x\" '$x'", "a b a  b $x\n"),
    "a subshell": ("x=1; (x=2; cd /tmp 2>/dev/null; echo $x); echo $x", "2\n1\n"),
    "redirection": (
        "echo a > f; echo b >> f; cat < f; { echo err >&2; } 2>/dev/null; wc -l < f",
        "a\nb\n2\n",
    ),
    "standard error": ("{ echo out; echo err >&2; } 2>&1 | sort", "err\nout\n"),
    "no output": ("ls /nowhere > /dev/null 2>&1; echo $?", "1\n"),
    "background": ("{ echo late; } & wait; echo done", "late\ndone\n"),
    "a job's status": ("(exit 5) & wait $!; echo $?", "5\n"),
    "exit trap": ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n"),
    "set -u": ("set -u; (echo $nothing) 2>/dev/null || echo unset", "unset\n"),
    "set -f": ("touch a b; set -f; echo *", "*\n"),
    "globs": ("mkdir d; touch d/a1 d/a2 d/b1; echo d/a* d/[!a]*; echo none*", "d/a1 d/a2 d/b1\nnone*\n"),
    "eval": ("x='echo $y'; y=3; eval $x", "3\n"),
    "getopts": ("while getopts ab: o; do echo $o$OPTARG; done", "a\nbval\n"),
    "read with IFS": ("echo a:b:c | { IFS=: read x y; echo $y; }", "b:c\n"),
    "a command's own environment": (
        "x=1; x=2 env | grep ^x=; echo $x; export x; env | grep ^x=",
        "x=2\n1\nx=1\n",
    ),
    "command -v": ("command -v ls; command -v cd; command -v nope || echo no", "ls\ncd\nno\n"),
    "a function that is in the way of an applet": ("ls() { echo mine; }; ls; command ls /", "mine\n"),
    "type": ("type cat", "cat is an applet of the toolbox\n"),
    "a loop whose reader has gone": ("while :; do echo x; done | head -n 1; echo after", "x\nafter\n"),
    "an applet whose reader has gone": ("yes | head -n 2; seq 1000000000 | head -n 1", "y\ny\n1\n"),
    "a pipe that nobody reads": ("seq 100000 | true; echo done", "done\n"),
    "cd and the applets": ("mkdir -p a/b; cd a; touch b/f; ls b; pwd; cd -; cd ..", "f\n/a\n/\n"),
    "arrays, as bash has them": ("a=(x y z); echo ${a[1]} ${#a[@]}; [[ abc == a* ]] && echo m", "y 3\nm\n"),
    "printf": ("printf '%03d|%-4s|%s\\n' 7 ab c", "007|ab  |c\n"),
    "standard directories": ("/bin/echo a; /usr/bin/test 1 = 1 && echo b", "a\nb\n"),
    "the name of the shell": ("echo $0", "sh\n"),
}

STATUSES = {
    "exit 3": 3,
    "false": 1,
    "nope": 127,
    "./nope": 127,
    "/bin/nope": 127,
    "set -e; false; echo never": 1,
    "set -e; if false; then :; fi; false || true; exit 7": 7,
    "set -e; f() { false; echo never; }; f": 1,
    "true | false": 1,
    "false | true": 0,
    "set -o pipefail; false | true": 1,
    "! true": 1,
    "test 1 -gt 2": 1,
    "[ -d / ]": 0,
    "(exit 4)": 4,
    "grep x /nowhere": 2,
    "if": 2,
    "echo 'unterminated": 2,
    "return 6 2>/dev/null; exit 6": 6,
    ": > /nodir/file": 1,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(guest, name):
    script, expected = SCRIPTS[name]
    args = ("-a", "-b", "val") if "getopts" in name else ()
    done = guest.sh(script, *args)
    assert (done.out.decode(), done.err, done.status) == (expected, "", 0)


@pytest.mark.parametrize("script", STATUSES)
def test_statuses(guest, script):
    assert guest.sh(script).status == STATUSES[script]


def test_an_unknown_command_is_named(guest):
    done = guest.sh("foo; echo $?")
    assert (done.out, done.err) == (b"127\n", "sh: foo: not found\n")


def test_a_script_file_runs_with_its_interpreter(guest):
    (guest.root / "run").write_text("#!/bin/sh -e\necho $0 $1 $#\nfalse\necho never\n")
    (guest.root / "plain").write_text("echo plain $1\n")
    (guest.root / "python").write_text("#!/usr/bin/python3\n")
    done = guest.sh("./run a b; echo $?; ./plain x; ./python; echo $?")
    assert done.out == b"/run a 2\n1\nplain x\n126\n"
    assert done.err == "sh: ./python: bad interpreter: /usr/bin/python3: not found\n"


def test_a_module_cannot_be_run_from_the_shell(guest):
    (guest.root / "app.wasm").write_bytes(b"\0asm\1\0\0\0")
    (guest.root / "data").write_bytes(b"\x7fELF\0\n")
    done = guest.sh("./app.wasm; echo $?; ./data; echo $?; /; echo $?")
    assert done.out == b"126\n126\n126\n"
    assert "a WebAssembly module cannot be started from inside an instance" in done.err
    assert "sh: ./data: Exec format error" in done.err


def test_a_file_in_the_path_is_found(guest):
    (guest.root / "usr" / "bin").mkdir(parents=True)
    (guest.root / "usr" / "bin" / "hello").write_text("echo hello\n")
    assert guest.sh("hello; command -v hello").text == "hello\n/usr/bin/hello\n"


def test_a_script_from_standard_input_shares_it_with_its_commands(guest):
    done = guest.run("sh", stdin="read x\nthe line\necho got $x\nexit 4\necho never\n")
    assert (done.out, done.err, done.status) == (b"got the line\n", "", 4)


def test_arguments_and_options_of_the_shell(guest):
    assert guest.run("sh", "-c", "echo $0 $1", "name", "arg").text == "name arg\n"
    assert guest.run("sh", "-ec", "false; echo never").status == 1
    assert guest.run("sh", "-s", "a", "b", stdin="echo $2").text == "b\n"
    assert guest.run("sh", "/nowhere").status == 127
    assert guest.run("sh", "-c").status == 2
    assert "+ echo a" in guest.run("sh", "-xc", "echo a").err


def test_the_toolbox_without_arguments_is_a_shell(guest):
    assert guest.run("toolbox", stdin="echo hi\n").text == "hi\n"
    assert guest.run("toolbox", "echo", "-n", "hi").text == "hi"
    assert guest.run("/some/entrypoint.wasm", "echo", "hi").text == "hi\n"
    assert guest.run("toolbox", "nope").status == 127


def test_the_working_directory_is_that_of_the_container(guest):
    (guest.root / "work").mkdir()
    (guest.root / "work" / "f").touch()
    assert guest.run("ls", env={"PWD": "/work"}).text == "f\n"
    assert guest.run("sh", "-c", "pwd; ls", env={"PWD": "/work"}).text == "/work\nf\n"


def test_mounts_below_the_root_are_seen(guest, tmp_path):
    (guest.root / "data").mkdir()
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "in").write_text("mounted\n")
    script = "cat /data/in; cd data; cat in; echo new > out; mv out /moved; cat /moved; cp /moved again"
    assert guest.run("sh", "-c", script, mounts={"/data": mount}).text == "mounted\nmounted\nnew\n"
    assert (mount / "again").read_text() == "new\n"
    assert sorted(file.name for file in mount.iterdir()) == ["again", "in"]


def test_bytes_pass_unchanged(guest):
    data = bytes(range(256)) * 1000
    (guest.root / "data").write_bytes(data)
    assert guest.sh("cat data | cat | tee copy").out == data
    assert (guest.root / "copy").read_bytes() == data
    assert guest.sh("cat > in", stdin=data).status == 0
    assert (guest.root / "in").read_bytes() == data


def test_nothing_leads_out_of_the_container(guest, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (guest.root / "link").symlink_to("../secret")
    for name in ("../secret", "/../secret", "link", "/x/../../secret"):
        done = guest.run("cat", name)
        assert (done.status, done.out) == (1, b"")


def test_redirections_that_fail_are_told_as_a_shell_does(guest):
    done = guest.run("/bin/sh", "-c", "echo x > nope/f; echo $?; cat < nope")
    assert done.out == b"1\n"
    assert done.err == (
        "/bin/sh: can't create nope/f: No such file or directory\n"
        "/bin/sh: can't open nope: No such file or directory\n"
    )
