"""An AMQP broker that closes the connection over certain messages: a proxy before the real one, for closes that RabbitMQ gives only when
something in it crashes."""

import socket
import struct
import threading


def _method(channel, class_id, method_id, arguments):
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


class Closer:
    """Listens on `port`. A connection that carries `marker` to the broker is answered with connection.close instead of being carried on;
    from then on nothing of it reaches the broker. Use it as a context manager."""

    def __init__(self, server_port, marker, code=541, text="INTERNAL_ERROR"):
        self.server_port, self.marker = server_port, marker
        reply = text.encode()
        self.close_frame = _method(0, 10, 50, struct.pack(">HB", code, len(reply)) + reply + struct.pack(">HH", 0, 0))
        self.closed = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server_port))
            sending = threading.Lock()  # whole frames only, also between the two threads
            threading.Thread(target=self._to_server, args=(client, server, sending), daemon=True).start()
            threading.Thread(target=self._to_client, args=(client, server, sending), daemon=True).start()

    def _to_server(self, client, server, sending):
        tail = b""
        try:
            while data := client.recv(65536):
                if self.marker in tail + data:
                    self.closed += 1
                    with sending:
                        server.shutdown(socket.SHUT_RDWR)
                        client.sendall(self.close_frame)
                    while client.recv(65536):  # until it has read the close
                        pass
                    break
                tail = (tail + data)[-len(self.marker) :]
                server.sendall(data)
        except OSError:
            pass
        client.close()
        server.close()

    @staticmethod
    def _to_client(client, server, sending):
        held = b""
        try:
            while data := server.recv(65536):
                held += data
                while len(held) >= 7 and len(held) >= (whole := 8 + struct.unpack(">I", held[3:7])[0]):
                    with sending:
                        client.sendall(held[:whole])
                    held = held[whole:]
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
