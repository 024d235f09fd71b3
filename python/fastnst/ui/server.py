"""Serving a page."""

from __future__ import annotations

import os
import socket
from typing import Any

import gradio as gr

from fastnst.errors import BackendUnavailable

CSS = """
#download { display: block; padding: 0.6em; text-align: center; font-weight: 600 }
#status { min-height: 1.6em; overflow-wrap: anywhere }
#status .failed { padding: 0.6em 0.9em; border-left: 4px solid #c0392b; background: #c0392b1a }
#content-samples, #style-samples, #runs { min-height: 0 !important }
#content-samples .grid-wrap, #style-samples .grid-wrap, #runs .grid-wrap {
  min-height: 0 !important; height: auto !important; padding-top: 1.9em; overflow: hidden }
#content-samples .grid-container, #style-samples .grid-container {
  grid-template-columns: repeat(3, minmax(0, 1fr)) !important }
#runs .grid-container { grid-template-columns: repeat(auto-fill, minmax(0, 96px)) !important }
#content-samples .caption-label, #style-samples .caption-label, #runs .caption-label {
  font-size: 0.7em; padding: 1px 5px; max-width: 100% }
.gradio-container { max-width: 1500px !important }
"""


def serve(page: Any, host: str, port: int | None, *, browser: bool, megabytes: int = 20) -> str:
    """Serve a page from a thread of its own; returns its address.

    Args:
        page: A Gradio ``Blocks``.
        host: The address to listen at; at 127.0.0.1 nobody but this machine sees it.
        port: The port; None: the first free one from 7860.
        browser: Whether to open it in the browser.
        megabytes: The largest upload.

    Raises:
        BackendUnavailable: if the address cannot be used.
    """
    host = host.removeprefix("[").removesuffix("]")
    _check_address(host, port)
    _pass_by_proxies(host)
    try:
        _, address, _ = page.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            show_error=False,
            footer_links=[],
            max_file_size=megabytes * 2**20,
            ssr_mode=False,
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=CSS,
        )
    # Gradio asks its own page whether it is there, by a client with errors of its own.
    except Exception as error:
        raise BackendUnavailable(f"the page cannot be served at {host}: {error}") from error
    return str(address)


def _pass_by_proxies(host: str) -> None:
    """Let no proxy of the environment stand between this process and its own page."""
    for name in ("NO_PROXY", "no_proxy"):
        known = filter(None, os.environ.get(name, "").split(","))
        places = dict.fromkeys((*known, host, "localhost", "127.0.0.1", "::1"))
        os.environ[name] = ",".join(places)


def _check_address(host: str, port: int | None) -> None:
    """Make sure that the address is one of this machine's: Gradio would try a hundred ports there.

    Raises:
        BackendUnavailable: naming the address and, if one was asked for, the port.
    """
    called = host if port is None else f"{host}, port {port}"
    try:
        found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, ValueError, IndexError) as error:  # ValueError: what no name can have in it
        reason = getattr(error, "strerror", None) or error
        raise BackendUnavailable(f"the page cannot be served at {called}: {reason}") from error
