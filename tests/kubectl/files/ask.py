"""Asks the engine's DNS for the addresses of a name, with nothing but a socket: ask.py ADDRESS:PORT NAME."""
import socket, struct, sys

host, port = sys.argv[1].rsplit(":", 1)
labels = b"".join(bytes([len(label)]) + label.encode() for label in sys.argv[2].split("."))
question = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.settimeout(5)
    s.sendto(question, (host, int(port)))
    answer = s.recv(4096)
code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
at = len(question)
for _ in range(count):
    at += 2 if answer[at] & 0xC0 else answer.index(b"\0", at) - at + 1
    kind, _, _, length = struct.unpack(">2HIH", answer[at:at + 10])
    if kind == 1:
        print(socket.inet_ntoa(answer[at + 10:at + 10 + length]))
    at += 10 + length
if not count:
    print({0: "no such data", 3: "no such name"}.get(code, f"code {code}"))
