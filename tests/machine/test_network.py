# Debian's kernels on the network: a lease, names, files from and to the host, and two guests at one switch.
import hashlib
import http.server
import re
import select
import socket
import subprocess
import threading
import urllib.request

import pytest

from emu.devices.backend.net.switch import find_switch
from tests.machine.test_debian import PROMPT, Session, guests

__all__ = ["guests"]
FILE = bytes(k * 131 >> 3 & 0xFF for k in range(1 << 20))


class NetSession(Session):
    """A guest whose idle time may pass as the host's does."""

    def wait(self, pattern, start=None, instructions=12_000_000_000):
        start = len(self.text) if start is None else start
        end = self.machine.retired + instructions
        while not re.search(pattern, self.text[start:]):
            self.slice()
            assert self.machine.retired < end, f"no {pattern!r}\n{self.text[-3000:]}"
        return self.text[start:]

    def slice(self):
        machine = self.machine
        assert machine.run_slice() is None, f"{machine.exit}\n{self.text[-3000:]}"
        self.text += machine.serial.read().decode("latin1")
        if machine.idle_ns:
            select.select(machine.descriptors(), [], [], 1 if machine.idle_ns < 0 else min(1, machine.idle_ns / 1e9))


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(FILE)))
            self.end_headers()
            self.wfile.write(FILE)

        def log_message(self, *_):
            pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_address[1]
        running.shutdown()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.mark.parametrize("name, model", [("debian", "virtio"), ("debian-amd64", "e1000")])
def test_debian_gets_a_lease_and_files_go_both_ways(guests, server, tmp_path, name, model):
    port = free_port()
    session = NetSession(guests(name), net=f"user,model={model},forward={port}:80,pcap={tmp_path}/pcap")
    with session.machine as machine:
        session.wait(PROMPT)
        lease = session.run("while ! grep -q nameserver /etc/resolv.conf 2>/dev/null; do sleep 0.1; done;"
                            " ip addr show eth0; ip route; cat /etc/resolv.conf")
        assert "10.0.2.15/24" in lease and "default via 10.0.2.2" in lease and "nameserver 10.0.2.3" in lease
        assert "0% packet loss" in session.run("ping -c 2 10.0.2.2")
        got = session.run(f"wget -q -O /tmp/f http://10.0.2.2:{server}/ && sha1sum /tmp/f")
        assert hashlib.sha1(FILE).hexdigest() in got
        session.run("mkdir /www; cp /tmp/f /www/f; httpd -h /www")
        answer = []
        fetcher = threading.Thread(target=lambda: answer.append(urllib.request.urlopen(f"http://127.0.0.1:{port}/f", timeout=60).read()))
        fetcher.start()
        while fetcher.is_alive():
            session.slice()
        assert answer == [FILE]
        usage = machine.usage["devices"]["net0"]
        assert min(usage[way]["bytes"] for way in usage) > 1 << 20 and usage["received"]["lost"] == 0
    shown = subprocess.run(["tshark", "-r", f"{tmp_path}/pcap", "-Y", "http or dhcp"], capture_output=True, text=True, check=True).stdout
    assert "DHCP ACK" in shown and "GET /f HTTP" in shown


def test_two_guests_at_a_switch_reach_each_other(guests, tmp_path):
    switch = find_switch("lan")
    switch.is_synchronised = True
    sessions = [NetSession(guests("debian"), seed=k, net=f"switch={switch.name},pcap={tmp_path}/{k}") for k in range(2)]
    now = 0

    def wait(session, pattern):
        nonlocal now
        start = len(session.text)
        while not re.search(pattern, session.text[start:]):
            now += switch.latency_ns
            assert now < 60 * 10 ** 9, session.text[-3000:]
            for each in sessions:
                assert each.machine.run_window(now) is None
                each.text += each.machine.serial.read().decode("latin1")
            switch.exchange()
        return session.text[start:]

    def run(session, line):
        session.machine.serial.send(line.encode() + b"; echo done=$?\n")
        return wait(session, r"done=\d+")

    wait(sessions[0], PROMPT)
    if not re.search(PROMPT, sessions[1].text):
        wait(sessions[1], PROMPT)
    for k, session in enumerate(sessions):
        run(session, f"killall udhcpc; ip addr add 10.1.0.{k + 1}/24 dev eth0; ip link set eth0 up")
    assert "0% packet loss" in run(sessions[0], "ping -c 2 10.1.0.2")
    made = run(sessions[1], "mkdir /www; seq 1 50000 > /www/f; sha1sum /www/f; httpd -h /www")
    got = run(sessions[0], "wget -q -O /tmp/f http://10.1.0.2/f; sha1sum /tmp/f")
    digest = hashlib.sha1(b"".join(b"%d\n" % k for k in range(1, 50001))).hexdigest()
    assert digest in made and digest in got
    for session in sessions:
        session.machine.close()
    shown = [subprocess.run(["tshark", "-r", f"{tmp_path}/{k}", "-Y", "http or icmp"], capture_output=True, text=True, check=True).stdout
             for k in range(2)]
    assert all("GET /f HTTP" in text and "Echo (ping) reply" in text for text in shown)
