"""Owns the list of uvloop's tests that PyLoop does not run, or runs with asyncio's rules.

Where uvloop's expectation differs from asyncio's, asyncio decides; the place in CPython 3.13 is named.
Every test of these lists fails on asyncio's own loop as well: `run.py --loop asyncio --all`.
"""

from __future__ import annotations

import sys
from typing import Final

FILES: Final = {
    "test_cython": "asks Cython's coroutines for their description",
    "test_fs_event": "libuv's file system events: uvloop's own call, which asyncio does not have",
    "test_libuv_api": "the address of libuv's own loop",
    "test_sourcecode": "flake8 and mypy over uvloop's sources",
    "test_testbase": "tests uvloop's test base, and no loop",
}

BUFFERED: Final = (
    "BufferedProtocol is asked for by class, not by get_buffer (selector_events.set_protocol)"
)
CLOSED_BENEATH: Final = (
    "no loop of asyncio keeps a socket open that its user closes (selector_events.sock_recv)"
)

TESTS: Final = {
    "test_process.Test_UV_Process.test_process_double_close": (
        "counts the os.dup and os.close of uvloop's own code (unix_events._start uses subprocess)"
    ),
    "test_process.Test_UV_Process_Delayed.test_process_delayed_stdio__paused__no_stdin": (
        "__uvloop_sleep_after_fork, a switch of uvloop's own for its tests"
    ),
    "test_process.Test_UV_Process_Delayed.test_process_delayed_stdio__paused__stdin_pipe": (
        "__uvloop_sleep_after_fork, a switch of uvloop's own for its tests"
    ),
    "test_signals.Test_UV_Signals.test_signals_no_SIGCHLD": (
        "a handler for SIGCHLD may be added (unix_events.add_signal_handler)"
    ),
    "test_sockets.TestUVSockets.test_pseudosocket": (
        "the repr of trsock.TransportSocket formats family with !s: a number"
    ),
    "test_sockets.TestUVSockets.test_socket_close_loop_and_close": CLOSED_BENEATH,
    "test_sockets.TestUVSockets.test_socket_connect_and_close": CLOSED_BENEATH,
    "test_sockets.TestUVSockets.test_socket_recv_and_close": CLOSED_BENEATH,
    "test_sockets.TestUVSockets.test_socket_recv_into_and_close": CLOSED_BENEATH,
    "test_tcp.Test_UV_TCP.test_create_server_buffered_1": BUFFERED,
    "test_tcp.Test_UV_TCP.test_create_server_buffered_2": BUFFERED,
    "test_tcp.Test_UV_TCP.test_tcp_handle_abort_in_connection_made": (
        "a transport that was aborted still has its socket, closed (_SelectorTransport.__init__)"
    ),
    "test_udp.Test_UV_UDP.test_create_datagram_endpoint_wrong_sock": (
        "other words: 'A datagram socket was expected' (base_events.create_datagram_endpoint)"
    ),
    "test_udp.Test_UV_UDP.test_udp_sendto_dns": (
        "names are resolved by socket.sendto, not refused (_SelectorDatagramTransport.sendto)"
    ),
    "test_unix.Test_UV_Unix.test_epollhup": BUFFERED,
}

if sys.version_info < (3, 13, 3):
    EAGER: Final = "base_events.create_task takes eager_start from 3.13.3 on only"
    TESTS |= {
        "test_base.TestBaseUV.test_loop_create_task_eager_start": EAGER,
        "test_base.TestBaseAIO.test_loop_create_task_eager_start": EAGER,
    }

SERVED_CONTEXT: Final = (
    "callbacks run in the context they were scheduled in, not the connection's (call_soon)"
)
NODELAY: Final = "TCP_NODELAY only where proto is IPPROTO_TCP (base_events._set_nodelay)"
TLS: Final = (
    "another shutdown or start than sslproto.SSLProtocol's: uvloop leaves it out for asyncio"
)

# Tests with a branch of uvloop's own for asyncio: on PyLoop they take it.
AS_ON_ASYNCIO: Final = {
    "test_base.TestBaseUV.test_thread_name_prefix_in_default_executor": (
        "the threads of the default executor are called asyncio_N (base_events.run_in_executor)"
    ),
    "test_context.Test_UV_Context.test_create_connection_protocol": SERVED_CONTEXT,
    "test_context.Test_UV_Context.test_create_server_manual_connection_lost": SERVED_CONTEXT,
    "test_context.Test_UV_Context.test_create_ssl_server_connection_protocol": SERVED_CONTEXT,
    "test_context.Test_UV_Context.test_create_ssl_server_manual_connection_lost": SERVED_CONTEXT,
    "test_context.Test_UV_Context.test_datagram_protocol": SERVED_CONTEXT,
    "test_context.Test_UV_Context.test_start_tls": SERVED_CONTEXT,
    "test_tcp.Test_UV_TCP.test_create_connection_open_con_sock": NODELAY,
    "test_tcp.Test_UV_TCP.test_create_server_1": NODELAY,
    "test_tcp.Test_UV_TCPSSL.test_bpo_39951_discard_trailing_data": TLS,
    "test_tcp.Test_UV_TCPSSL.test_first_data_after_wakeup": TLS,
    "test_tcp.Test_UV_TCPSSL.test_flush_before_shutdown": TLS,
    "test_tcp.Test_UV_TCPSSL.test_shutdown_timeout_handler_not_set": TLS,
    "test_tcp.Test_UV_TCPSSL.test_shutdown_while_pause_reading": TLS,
    "test_tcp.Test_UV_TCPSSL.test_start_tls_client_buf_proto_1": BUFFERED,
    "test_udp.Test_UV_UDP.test_create_datagram_endpoint_reuse_address_error": (
        "create_datagram_endpoint has no reuse_address since 3.11"
    ),
    "test_udp.Test_UV_UDP.test_create_datagram_endpoint_reuse_address_warning": (
        "create_datagram_endpoint has no reuse_address since 3.11"
    ),
}
