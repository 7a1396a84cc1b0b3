"""The everyday commands: the same output as the machine's own where both have it, and their errors."""

# ruff: noqa: E501  each script is one line

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading

import pytest
from toolbox_guest import environment

SAME = [
    "printf 'b 2\\na 10\\nc 1\\na 10\\n' > f; sort f; sort -r f; sort -u f; sort -k2,2n f; sort -t' ' -k2 f",
    "printf '10\\n9\\n1K\\n2M\\n' | sort -h; printf 'B\\na\\nC\\n' | sort -f; printf '2\\n1\\n' | sort -c; echo $?",
    "printf 'x,3\\ny,1\\nz,2\\n' | sort -t, -k2n -o out; cat out",
    "printf 'a\\na\\nb\\nc\\nc\\n' > f; uniq f; uniq -c f; uniq -d f; uniq -u f; printf 'A\\na\\n' | uniq -i",
    "printf 'one two\\nthree\\n' > f; wc -l f; wc -l < f; wc -c f; wc -w < f; printf 'é' | wc -c",
    "seq 20 > f; head -n 3 f; head -5 f; head -c 4 f; head -n -17 f; head -c -45 f; seq 3 | head -n 1",
    "seq 20 > f; tail -n 3 f; tail -2 f; tail -c 6 f; tail -n +18 f; tail -c +46 f; seq 9 | tail -n 2",
    "printf 'no end' | tail -n 1; printf '' | tail; printf 'a\\n\\n\\n' | tail -n 2; seq 5 | tail -n 0",
    "seq 100000 > f; tail -n 30000 f | md5sum; head -c 300k f | md5sum; tail -c 1M f | md5sum",
    "seq 3 > a; seq 2 > b; head -n 1 a b; tail -qn 1 a b; tail -n +2 a; head -v -n 1 a",
    "echo 'a:b:c' | cut -d: -f2; echo 'a:b:c' | cut -d: -f1,3-; echo abcdef | cut -c2-4,6; echo nod | cut -d: -f2",
    "echo nod | cut -d: -s -f2; echo 'a b' | cut -d' ' -f2- --output-delimiter=_; echo abc | cut -b -2",
    "echo hello | tr a-y b-z; echo 'a  b' | tr -s ' '; echo a1b2 | tr -d 0-9; echo abc | tr -cd 'ab\\n'",
    "echo Hello | tr '[:upper:]' '[:lower:]'; printf 'a\\nb' | tr '\\n' ,; echo aabb | tr -s ab xy; echo x | tr x '\\101'",
    "seq 3; seq 2 4; seq 1 2 7; seq 5 -2 1; seq -w 8 10; seq -s, 3; seq 0.5 0.5 2; seq -3 -1; seq 3 1",
    "basename /a/b.c; basename /a/b.c .c; basename /; basename a/; dirname /a/b; dirname a; dirname /; dirname a/b/",
    "printf 'foo\\nbar\\nFoo\\nfoobar\\n' > f; grep foo f; grep -i FOO f; grep -v foo f; grep -c foo f; grep -n bar f",
    "printf 'foo\\nbar\\nfoobar\\n' > f; grep -w foo f; grep -x bar f; grep -o 'o*b' f; grep -l foo f; grep -L zzz f; grep -q x f",
    "printf 'a+b\\naab\\na.b\\n' > f; grep 'a+b' f; grep -E 'a+b' f; grep -F 'a.b' f; grep 'a\\+b' f; grep 'a\\{2\\}b' f",
    "printf 'a(b)\\nab\\n[x]\\n' > f; grep 'a(b)' f; grep -E 'a\\(b\\)' f; grep '[]]' f; grep '[[:alpha:]]b' f; grep '^*' f",
    "seq 10 > f; grep -A1 3 f; grep -B1 5 f; grep -C1 -n 7 f; grep -m2 . f; printf '1\\n5\\n' > p; grep -xf p f",
    "mkdir -p d/e; echo x > d/1; echo x > d/e/2; echo y > d/3.c; grep -r x d | sort; grep -rl --include='*.c' y d; grep -h x d/1 d/e/2",
    "printf 'x\\ny\\n' | grep -e x -e y; echo ab | grep -E 'b|c'; echo 'a-b' | grep -- -b; echo aBc | grep -io b",
    "printf '\\000bin' > b; grep -c bin b; echo x | grep y; echo $?; grep x /nowhere 2>/dev/null; echo $?",
    "mkdir d; touch d/b d/a; mkdir d/c; ls d; ls -1r d; ls -d d; ls -p d; ls -a d; ls -A d; ls d/a; ls -F d",
    "mkdir -p d/e; touch d/x d/.h; ls -R d; ls d/*; ls -1 d d/e; printf 12345 > big; printf 1 > small; ls -S big small",
    "mkdir -p a/b/c; rmdir a/b/c; ls a/b; rmdir -p a/b; ls; mkdir a; mkdir a 2>/dev/null; echo $?; mkdir x/y 2>/dev/null; echo $?",
    "touch f; rm f; ls; rm f 2>/dev/null; echo $?; rm -f f; echo $?; mkdir -p d/e; rm d 2>/dev/null; echo $?; rm -r d; ls",
    "echo a > f; cp f g; cat g; mkdir d; cp f g d; ls d; cp -r d e; ls e; cp d x 2>/dev/null; echo $?; cp -r d e; ls e",
    "ln -s f l; echo x > f; cp l m; cp -P l n; readlink n; readlink m; echo $?; cp -a l o; readlink o; cat l",
    "echo a > f; mv f g; ls; mkdir d; mv g d; ls d; mv d e; ls; touch x y; mv x y e; ls e; mv no z 2>/dev/null; echo $?",
    "echo 1 > a; echo 2 > b; mv -n a b; cat b; cp -n a b; cat b; mv a b; cat b; ls; mkdir d; mv b d; mv -T d/b c; cat c",
    "echo x > a; ln a b; stat -c %h a; ln -s a c; readlink c; ln -sf b c; readlink c; readlink -f c | tail -c 2; ln a b 2>/dev/null; echo $?",
    "touch -d '2020-02-03 04:05:06' f; stat -c %Y f; date -u -r f +%F; touch -r f g; stat -c %y g | cut -c-19; touch -c no; ls",
    "printf abc > f; stat -c '%n %s %F' f; mkdir d; stat -c '%F' d; ln -s f l; stat -c '%F %N' l | tr -d \"'\" ; stat -L -c %s l",
    "touch f; chmod 640 f; stat -c '%a %A %u %g' f; chmod u+x,go= f; stat -c %A f; chmod a+rX,o-r f; stat -c %A f; chmod =rw f; stat -c %A f",
    "mkdir -p d/e; touch d/f; chmod -R 700 d; stat -c %A d d/e d/f; chmod 1777 d; stat -c '%a %A' d; ln -s f d/l; stat -c %A d/l; chmod -w d/f; stat -c %A d/f",
    "printf 'a b c\\nd e f\\n' > f; awk '{print $2}' f; awk '{print $1, $NF; print NR, NF}' < f; wc -l f | awk {'print $1'}",
    "seq 10 > f; awk '$1 > 7' f; awk '/1/ {n++} END {print n, NR}' f; awk 'NR==2,NR==4 {s+=$1} END {print s}' f; awk '{s+=$1} END {print s/NR, s%7, 2^10, -2^2, 1/3}' f",
    "printf 'x=1;y=22\\n' > f; awk -F'[=;]' '{print $2+$4, length($0), substr($0,3,2), index($0,\"y\")}' f; awk '{n=split($0,a,/[=;]/); print n, a[1] a[4]; gsub(/[0-9]/,\"<&>\"); print; sub(/x/,\"\\\\&\"); print toupper($0)}' f",
    'awk \'BEGIN {for (i=0;i<3;i++) {if (i==1) continue; print i}; while (j<3) j++; do k++; while (k<5); print j, k; a["x"]=1; if ("x" in a) delete a["x"]; print ("x" in a), length(a)}\'',
    'awk \'function f(n) {return n<2 ? n : f(n-1)+f(n-2)} function g(a) {a[1]=7} BEGIN {print f(15); g(z); print z[1]; printf "%5.2f|%-5s|%05d|%x|%c|%s|%%\\n", 3.14159, "ab", 42, 255, "hello", 1e6; exit 3} END {print "end"}\'; echo $?',
    'printf \'1\\n2\\n\' > f; awk \'BEGIN {while ((getline l < "f") > 0) s = s l; close("f"); print s; "echo hi" | getline x; print x; print "out" > "g"; close("g"); getline y < "g"; print y; system("echo sys")}\'; cat g',
    'awk -v x=\'a\\tb\' \'BEGIN {print x; print length(x), 010+1, "3x"+1, 1==1.0, "10"<"9", 10<9, 1e3, 2147483647, 0.1+0.2}\'; echo \'10 9\' | awk \'{print ($1<$2), ($1""<$2"")}\'',
    'printf \'a b\\n\\nc\\nd\\n\' | awk \'BEGIN{RS=""} {print NR": "$1"-"$2; $3="z"; print NF, $0}\'; echo \'a b c\' | awk \'{NF=2; print; $5="e"; print; OFS="-"; $1=$1; print}\'; echo x | awk \'{print > "/dev/stderr"}\' 2>&1',
    'awk \'BEGIN {print substr("hello",1,2) substr("hello",4), match("foobar",/o+/), RSTART, RLENGTH; print !0, !"a", 5 " " -1, 2-1, 1 - -1; x=5; x+=2; x^=2; print x++ + ++x, x; $0="p q"; print $2 $1}\'',
    "awk 'BEGIN{print 1' 2>/dev/null; echo $?; awk 'BEGIN{x[1]=1; for (k in x) print k, x[k]; if (!(2 in x)) print \"no\"} # comment'; printf 'b 2\\na 1\\n' | awk '{print $2, $1}' OFS=, - | sort; awk '1' nope 2>/dev/null; echo $?",
    "printf 'abc\\000\\377\\n' > f; hexdump -C f; hexdump f; head -c 100 /dev/zero | hexdump -C; seq 30 > g; hexdump -C -s 3 -n 40 g; printf '' | hexdump -C",
    "head -c 64 /dev/zero | hexdump -v; seq 9 | hexdump; hexdump -C nope 2>/dev/null; echo $?; printf 'x%.0s' $(seq 48) | hexdump -C",
    "printf abc > f; md5sum f; sha1sum f; sha256sum f; sha512sum f; sha256sum < f; sha256sum f > s; sha256sum -c s; echo x >> f; sha256sum -c s 2>/dev/null; echo $?",
    "head -c 100 /dev/zero | base64; printf abc | base64 | base64 -d; printf abcd | base64 -w 4; printf '%%%%' | base64 -d 2>/dev/null; echo $?",
    "seq 1000 > f; gzip f; ls; gunzip f.gz; md5sum f; gzip -k f; ls; zcat f.gz | md5sum; gzip -c f | gzip -dc | md5sum; echo x | gzip -d 2>/dev/null; echo $?",
    "date -u -d @0 '+%Y-%m-%d %H:%M:%S %j %a %b %s %y %-d %e %I %p %u %w %V %F %T %D %R %%'; date -u -d 2024-02-29 +%A; date -d '2020-01-02T03:04:05Z' -u -R",
    "date -u -d '2021-12-31 23:59:58' +%s; date -u -d @1e9 +%F 2>/dev/null || echo 2001-09-09; date -u -Id -d @0; date -u -Iseconds -d @0; date -u -d @0 +%FT%T%:z",
    "env -i A=1 B=2 env; env -i A=1 printenv A; A=1 printenv A; printenv NOPE; echo $?; env -u A -i X=1 env; env X=1 sh -c 'echo $X'",
    "printf 'a b\\nc\\n' | xargs; printf 'a b\\nc\\n' | xargs -n 1 echo -; printf 'a\\0b c\\0' | xargs -0 -n1 echo; printf 'x\\ny\\n' | xargs -I{} echo '<{}>'",
    "printf '' | xargs echo none; printf '' | xargs -r echo none; echo a | xargs false; echo $?; printf \"'a b' c\" | xargs -n1; echo a | xargs nope 2>/dev/null; echo $?",
    "mkdir -p d/e; touch d/a.c d/e/b.c d/x; find d | sort; find d -name '*.c' | sort; find d -type d | sort; find d -maxdepth 1 -type f | sort; find d -mindepth 2",
    "mkdir -p d/e; touch d/a d/e/b; find d -type f -exec echo {} \\; | sort; find d -type f -exec echo {} + | wc -l; find d -name b -delete; find d | sort; find d -empty | sort",
    "mkdir -p d/e; touch d/a d/e/b; find d ! -name a -type f; find d \\( -name a -o -name b \\) | sort; find d -name e -prune -o -print | sort; find d -path '*e*' | sort; find no 2>/dev/null; echo $?",
    "printf 12345 > f; : > g; touch -d 2001-01-01 old; find . -size +0 -type f | sort; find . -newer old -type f | sort; find . -mtime +100; find . -size 5c; find . -print0 -name f | tr '\\0' ' ' | wc -w",
    "echo a | tee x y; cat x y; echo b | tee -a x; cat x; yes n | head -n 2; yes a b | head -n 1; cat -n x; echo z | cat x - y",
    "printf 'ab' > a; printf 'ab' > b; cmp a b; echo $?; printf 'ax' > b; cmp a b; echo $?; cmp -s a b; echo $?",
    "mkdir d; printf 12345 > d/f; du -b d/f; du -s -b d/f; realpath d/../d/f | sed 's,.*/d/,d/,'".replace(
        " | sed 's,.*/d/,d/,'", " | tail -c 4"
    ),
    "test -e f; echo $?; touch f; test -f f && [ ! -d f ] && echo ok; [ -s f ]; echo $?; [ a = b -o 1 -lt 2 ]; echo $?; [ -x / ] && echo x",
    "expr=1; pwd | wc -l; printf '%s %d %x %c\\n' a 10 255 xyz; printf '%5.2f|%-5s|\\t|\\n' 3.14159 ab; echo -n x; echo -e 'a\\tb'",
    r"seq 5 > f; sed 's/3/x/' f; sed -n 2p f; sed 2d f; sed '2,3d' f; sed -n '$p' f; sed '3q' f; sed -n '2,+1p' f; sed '1~2d' f",
    r"printf 'foo bar foo\n' > f; sed 's/foo/X/g' f; sed 's/foo/X/2' f; sed 's/\(foo\) \(bar\)/\2 \1/' f; sed -E 's/(o+)/<\1>/g' f; sed 's/o/&&/' f",
    r"printf 'a/b\n' > f; sed 's,/,:,' f; sed 's/\//-/' f; sed 's|[/]|x|' f; sed 's/a/\n/' f; sed 's/./\U&/' f; sed 's/A/x/I' f; sed 'y/ab/xy/' f",
    r"seq 3 > f; sed '2a new' f; sed '2i new' f; sed '2c new' f; sed -e 1d -e 2d f; sed '/2/!d' f; sed '/1/,/2/d' f; sed '2{s/2/two/;p}' f",
    r"seq 6 > f; sed 'N;s/\n/-/' f; sed -n 'H;${x;s/\n/,/g;p}' f; sed 'n;d' f; sed '1!G;h;$!d' f; sed -n '$=' f; sed ':a;N;$!ba;s/\n/ /g' f",
    r"printf 'one\ntwo\n' > f; sed -i 's/o/0/' f; cat f; sed -i.bak 1d f; ls; cat f; sed 's/x' f 2>/dev/null; echo $?; sed -s -n 1p f f; echo a | sed p -",
    r"printf 'key=val # c\n\n#x\n' | sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/[ \t]*$//'; printf 'no end' | sed s/n/N/; echo q | sed 'q5'; echo $?",
    r"printf '%5.2f|%-5s|%05d|%+d|%x|%o|%e|%g|%%|%b\n' 3.14159 ab 42 7 255 8 1234.5 0.0001 'a\tb'; printf '%s-%s\n' a b c; printf '%d\n' 0x1f 010 \"'A\"; printf '%.2s|%*d\n' abc 5 3",
    r"printf '%s\n'; printf 'a\\0101\\x41\\c never'; printf '%d\n' abc 2>/dev/null; echo $?; printf '%c%c\n' hello world; printf '%s\n' -- -n; printf -- '-x\n'",
]


@pytest.mark.parametrize("script", SAME)
def test_as_on_any_machine(guest, tmp_path, script):
    """GNU's tools and bash are what the outputs have to be equal to."""
    real = tmp_path / "real"
    real.mkdir()
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    expected = subprocess.run(
        ["bash", "-c", script],
        cwd=real,
        env=environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    done = guest.sh(script)
    assert done.out.decode() == expected.stdout.decode(), (done.err, expected.stderr)
    assert done.status == expected.returncode
    assert bool(done.err) == bool(expected.stderr), (done.err, expected.stderr)


ERRORS = {
    ("cat", "nope"): (1, "cat: nope: No such file or directory\n"),
    ("cat", "/"): (1, "cat: /: Is a directory\n"),
    ("ls", "nope"): (1, "ls: nope: No such file or directory\n"),
    ("rm", "nope"): (1, "rm: can't remove 'nope': No such file or directory\n"),
    ("rm", "/"): (1, "rm: can't remove '/': it is the current directory, the one above, or the root\n"),
    ("mkdir", "/"): (1, None),
    ("rmdir", "nope"): (1, "rmdir: 'nope': No such file or directory\n"),
    ("cp", "nope", "x"): (1, "cp: can't stat 'nope': No such file or directory\n"),
    ("cp", "one"): (1, None),
    ("mv", "nope", "x"): (1, "mv: can't rename 'nope': No such file or directory\n"),
    ("ln", "-s", "/abs", "l"): (1, "ln: l: WASI makes no link to an absolute path\n"),
    ("head", "-n", "x"): (1, "head: invalid number 'x'\n"),
    ("sort", "-k0", "/"): (2, "sort: invalid key '0'\n"),
    ("sort", "nope"): (2, "sort: nope: No such file or directory\n"),
    ("grep", "a\\(b"): (2, None),
    ("grep", "\\(a\\)\\1"): (
        2,
        "grep: bad regex '\\(a\\)\\1': references back to a group are not supported\n",
    ),
    ("awk", "BEGIN { x"): (2, 'awk: line 1: unexpected "the end": expected "}"\n'),
    ("awk", "BEGIN { print 1/0 }"): (2, "awk: division by zero\n"),
    ("awk", 'BEGIN { print | "cat" }'): (
        2,
        "awk: output cannot go to a command here: write it to a file, or pipe awk's own\n",
    ),
    ("awk", "BEGIN { f(1) }"): (2, "awk: there is no function f\n"),
    ("awk", "function f(n) { return f(n) } BEGIN { f(1) }"): (
        2,
        "awk: function f calls itself without end\n",
    ),
    ("chmod", "u+q", "/"): (1, "chmod: invalid mode 'u+q'\n"),
    ("chmod", "755", "/nope"): (1, "chmod: /nope: No such file or directory\n"),
    ("kill", "1"): (1, None),
    ("sleep", "x"): (1, "sleep: invalid number 'x'\n"),
    ("date", "-d", "someday"): (1, "date: invalid date 'someday'\n"),
    ("date", "010100002020"): (1, "date: the time cannot be set here: '010100002020'\n"),
    ("ps",): (
        1,
        "ps: only a node tells an instance of its pod's containers (no /.vkubelet/pod/containers.json)\n",
    ),
    ("gzip", "-d", "nope"): (1, "gzip: nope: unknown suffix - ignored\n"),
    ("base64", "nope"): (1, "base64: nope: No such file or directory\n"),
    ("xargs", "-P", "2"): (1, "xargs: -P: commands run one after the other here\n"),
    ("find", "-printf", "%p"): (1, None),
    ("env", "nope"): (127, "sh: nope: not found\n"),
    ("touch", "no/file"): (1, "touch: no/file: No such file or directory\n"),
    ("cut", "-f", "0"): (1, "cut: invalid list '0'\n"),
    ("tr", "b-a", "x"): (1, "tr: range-endpoints of 'b-a' are in reverse order\n"),
}


@pytest.mark.parametrize("command", ERRORS)
def test_errors(guest, command):
    status, message = ERRORS[command]
    done = guest.run(*command)
    assert (done.status, done.out) == (status, b"")
    if message is None:
        assert done.err.startswith(f"{command[0]}: ")
    else:
        assert done.err == message


def test_an_unknown_option_is_refused_with_the_usage(guest):
    done = guest.run("ls", "-Z")
    assert done.status == 1
    assert done.err.startswith("ls: unrecognized option: Z\nUsage: ls [")
    assert guest.run("cp", "--nope").status == 1
    assert guest.run("ls", "--help").text.startswith("Usage: ls [")


def test_every_applet_tells_its_usage_or_needs_none(guest):
    names = guest.run("toolbox", "--list").text.split()
    assert {"sh", "ls", "tar", "cat", "[", "ps"} <= set(names)
    assert names == sorted(names)


def test_ls_in_the_long_form(guest):
    (guest.root / "f").write_bytes(b"x" * 2048)
    (guest.root / "d").mkdir()
    (guest.root / "l").symlink_to("f")
    os.utime(guest.root / "f", (0, 0))
    lines = guest.run("ls", "-l").text.splitlines()
    assert lines[0].startswith("total ")
    assert lines[1].startswith("drwxr-xr-x ")
    assert lines[2].split() == ["-rw-r--r--", "1", "root", "root", "2048", "Jan", "1", "1970", "f"]
    assert lines[3].endswith(" l -> f")
    assert " 2.0K " in guest.run("ls", "-lh", "f").text


def test_ps_shows_what_the_node_tells(guest, tmp_path):
    told = tmp_path / "told"
    told.mkdir()
    containers = [
        {
            "container": "web",
            "state": "running",
            "pid": 4711,
            "started_at": "2020-01-02T03:04:05Z",
            "restarts": 2,
            "command": ["server", "--port", "80"],
        }
    ]
    (told / "containers.json").write_text(json.dumps(containers))
    heading, line = guest.run("ps", mounts={"/.vkubelet/pod": told}).text.splitlines()
    assert heading.split() == ["PID", "CONTAINER", "STATE", "RESTARTS", "AGE", "COMMAND"]
    fields = line.split()
    assert fields[:4] == ["4711", "web", "running", "2"]
    assert fields[4].endswith("d")
    assert fields[5:] == ["server", "--port", "80"]


def test_who_and_where(guest):
    assert guest.run("id", "-u").text == f"{os.geteuid()}\n"
    assert guest.run("id", "-g").text == f"{os.getegid()}\n"
    everybody = dict.fromkeys([os.getegid(), *os.getgroups()])
    assert guest.run("id", "-G").text == f"{' '.join(map(str, everybody))}\n"
    name = "0(root)" if os.geteuid() == 0 else str(os.geteuid())
    assert guest.run("id").text.startswith(f"uid={name} gid=")
    assert guest.run("whoami").status == (0 if os.geteuid() == 0 else 1)
    assert guest.run("hostname", env={"HOSTNAME": "pod-1"}).text == "pod-1\n"
    (guest.root / "etc").mkdir()
    (guest.root / "etc" / "hosts").write_text("# names\n10.1.2.3\tpod-1.sub.ns.svc\tpod-1 # own\n")
    named = {"HOSTNAME": "pod-1"}
    assert guest.run("hostname", "-f", env=named).text == "pod-1.sub.ns.svc\n"
    assert guest.run("hostname", "-d", env=named).text == "sub.ns.svc\n"
    assert guest.run("hostname", "-i", env=named).text == "10.1.2.3\n"
    assert guest.run("hostname", "-f", env={"HOSTNAME": "other"}).text == "other\n"
    assert guest.run("uname", "-sm").text == "WASI wasm32\n"
    assert guest.run("sleep", "0").text == ""


def test_devices_are_there(guest):
    assert (
        guest.sh("head -c 3 /dev/zero | base64; cat /dev/null; head -c 8 /dev/urandom | wc -c").text
        == "AAAA\n8\n"
    )
    assert guest.sh("echo x | cat /dev/stdin; echo y > /dev/stdout").text == "x\ny\n"
    done = guest.sh("echo z > /dev/stderr")
    assert (done.out, done.err) == (b"", "z\n")


def test_a_directory_is_not_copied_into_itself(guest):
    (guest.root / "d").mkdir()
    done = guest.run("cp", "-r", "d", "d/e")
    assert done.status == 1
    assert "into itself" in done.err


def test_a_file_is_followed(guest):
    log = guest.root / "log"
    log.write_text("one\n")
    with subprocess.Popen(
        guest.command("tail", "-f", "log"),
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        with log.open("a") as file:
            file.write("two\n")
        assert process.stdout.readline() == b"two\n"
        log.write_text("")
        with log.open("a") as file:
            file.write("new\n")
        assert process.stdout.readline() == b"new\n"
        process.kill()


def test_large_files_stream(guest):
    """64 MiB pass through a pipe of applets, and nothing of them is lost."""
    block = os.urandom(1 << 20)
    expected = hashlib.sha256()
    with (guest.root / "big").open("wb") as file:
        for _ in range(64):
            file.write(block)
            expected.update(block)
    assert guest.sh("cat big | tee copy | sha256sum").text == f"{expected.hexdigest()}  -\n"
    assert guest.sh("sha256sum < copy").text == f"{expected.hexdigest()}  -\n"


def test_what_is_mounted_where_a_node_tells(guest, tmp_path):
    assert "/proc/mounts" in guest.run("mount").err
    directory = tmp_path / "proc"
    (directory / "1").mkdir(parents=True)
    (directory / "1/mounts").write_text(
        "wasi / wasi rw 0 0\nwasi /a\\040b wasi ro 0 0\nc2 /sys/c cgroup2 ro 0 0\n"
    )
    (directory / "self").symlink_to("1")
    (directory / "mounts").symlink_to("self/mounts")
    mounts = {"/proc": directory}
    assert guest.run("mount", mounts=mounts).text.splitlines() == [
        "wasi on / type wasi (rw)",
        "wasi on /a b type wasi (ro)",
        "c2 on /sys/c type cgroup2 (ro)",
    ]
    assert guest.run("mount", "-t", "cgroup2", mounts=mounts).text == "c2 on /sys/c type cgroup2 (ro)\n"
    assert guest.run("mount", "-t", "tmpfs,nfs", mounts=mounts).text == ""
    assert guest.run("mount", "/dev/a", "/b", mounts=mounts).status == 1


def test_how_much_room_there_is(guest, tmp_path):
    volume = tmp_path / "volume"
    (volume / "inner").mkdir(parents=True)
    heading, *lines = guest.run("df", mounts={"/v": volume}).text.splitlines()
    assert heading.split() == ["Filesystem", "1K-blocks", "Used", "Available", "Use%", "Mounted", "on"]
    assert [line.split()[-1] for line in lines] == ["/", "/v"]
    found = os.statvfs(volume)
    assert int(lines[1].split()[1]) == -(-found.f_blocks * found.f_frsize // 1024)
    (of_file,) = guest.run("df", "/v/inner", mounts={"/v": volume}).text.splitlines()[1:]
    assert of_file.split()[-1] == "/v"
    assert guest.run("df", "-hT", mounts={"/v": volume}).text.splitlines()[0].split()[:3] == [
        "Filesystem",
        "Type",
        "Size",
    ]
    assert guest.run("df", "/none").status == 1


def test_a_device_is_followed_for_ever(guest):
    """How people keep a container running."""
    with subprocess.Popen(
        guest.command("sh", "-c", "echo begin; tail -f /dev/null; echo end"),
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begin\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.kill()


def test_a_directory_is_listed_while_files_in_it_come_and_go(guest):
    (guest.root / "stays").touch()
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            for number in range(10):
                (guest.root / f"passing{number}").touch()
            ended.wait(0.005)  # a directory that never rests cannot be listed
            for number in range(10):
                (guest.root / f"passing{number}").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            assert b"./stays\n" in guest.run("find", ".", "-name", "stays").out
    finally:
        ended.set()
        thread.join()
