"""Pages: single HTML files that need no network, made of separate sources.

Scripts and styles are inlined. A Content-Security-Policy allows exactly those, by hash, and nothing from outside.
"""

from gradlab.pages.assembling import HtmlPage, bundle, html_of, inline_json
from gradlab.pages.exploring import explore_page

__all__ = ["HtmlPage", "bundle", "explore_page", "html_of", "inline_json"]
