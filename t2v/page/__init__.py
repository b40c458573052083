"""The Gradio page: prompting in the browser, on the same service as the command line."""

from t2v.page.launch import serve_page

__all__ = ["serve_page"]
