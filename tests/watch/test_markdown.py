"""Markdown of the page: safe, complete at every cut of a growing text, and linear in its length."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from playwright.async_api import Page

from tests.watch.support import browser, site

pytestmark = pytest.mark.browser

GROWING = """async () => {
  const { Prose } = await import("/watch-assets/text/prose.js");
  let state = 7;
  const random = (count) => (state = (state * 48271) % 2147483647) % count;
  const marks = ["# ", "- ", "1. ", "> ", "```", "```js\\n", "\\n", "\\n\\n", "\\n  ", "|", "|-|-|\\n",
    "**", "*", "_", "~~", "`", "[", "](https://a.example/b)", "](javascript:x)", "![", "<b>", "\\\\", "- [x] ",
    "---\\n", " ", "\\t", "(", ")", "\\r\\n", "https://c.example/"];
  const broken = [];
  const unfinished = [];
  for (let round = 0; round < 150; round += 1) {
    const words = [];
    let text = "";
    for (let piece = 0; piece < 24; piece += 1) {
      if (random(3) === 0) {
        const word = `w${round}x${piece}`;
        words.push(word);
        text += ` ${word} `;
      } else text += marks[random(marks.length)];
    }
    const growing = new Prose();
    for (let end = 1; end <= text.length; end += 1) growing.show(text.slice(0, end));
    const whole = new Prose();
    whole.show(text);
    const targets = [...whole.element.querySelectorAll("[href], [alt]")].map((one) => one.href ?? one.alt);
    const seen = whole.element.textContent + targets;
    if (words.some((word) => !seen.includes(word))) broken.push(text);
    if (growing.element.innerHTML !== whole.element.innerHTML) unfinished.push(text);
  }
  return [broken, unfinished];
}"""

RENDERED = """async (text) => {
  const { Prose } = await import("/watch-assets/text/prose.js");
  const prose = new Prose();
  prose.show(text);
  return prose.element.innerHTML;
}"""

TIMES = """async () => {
  const { linesOf, parseBlocks } = await import("/watch-assets/text/blocks.js");
  return ["[", "*", "`", "_a* ", "](", "> ", "|"].map((sign) => {
    const begun = performance.now();
    parseBlocks(linesOf(`x ${sign.repeat(1_000_000 / sign.length)}`));
    return [sign, performance.now() - begun];
  });
}"""


@pytest.fixture
async def page() -> AsyncGenerator[Page]:
    with site() as server:
        async with browser() as page:
            await page.goto(f"{server.url}/watch/none")
            yield page


async def test_every_cut_of_a_text_renders_and_the_end_is_that_of_the_whole_text(page: Page) -> None:
    without_words, different = await page.evaluate(GROWING)
    assert without_words == []
    assert different == []


async def test_a_million_signs_are_read_in_linear_time(page: Page) -> None:
    slow = {sign: took for sign, took in await page.evaluate(TIMES) if took > 5_000}
    assert slow == {}  # a quadratic reader takes hours


async def test_what_markdown_becomes(page: Page) -> None:
    async def html(text: str) -> str:
        return await page.evaluate(RENDERED, text)

    assert "<strong>b <em>c</em></strong>" in await html("a **b *c***")
    assert "<strong>a*b</strong>" in await html("**a*b**")
    assert "snake_case_name" in await html("snake_case_name")
    assert '<ul dir="auto"><li>a<ul dir="auto"><li>b</li></ul></li></ul>' in await html("- a\n  - b")
    assert '<ol dir="auto" start="3">' in await html("3. c\n4. d")
    assert 'aria-label="done">☑</span>' in await html("- [x] ship")
    assert '<td dir="auto" class="at-end">2</td>' in await html("|a|b|\n|-|-:|\n|1|2|")
    assert 'role="heading" aria-level="2"' in await html("## Why")
    code = await html("```py\nif a:\n    b\n```")
    assert "<span>py</span>" in code
    assert "if a:\n    b</code>" in code


async def test_only_safe_targets_become_links_and_no_image_of_another_host_is_loaded(page: Page) -> None:
    async def html(text: str) -> str:
        return await page.evaluate(RENDERED, text)

    linked = await html("[here](https://a.example/b)")
    assert 'href="https://a.example/b"' in linked
    assert 'rel="noopener noreferrer nofollow"' in linked
    assert 'data-host="a.example"' in linked
    assert "data-host" not in await html("see https://a.example/b.")
    assert 'data-host="evil.example"' in await html("[https://good.example](https://evil.example)")
    hostile = [
        "[x](javascript:alert(1))",
        "[x](data:text/html,x)",
        "[x](vbscript:x)",
        "[x](//a.example)",
        "<img src=x>",
    ]
    for text in hostile:
        answer = await html(text)
        assert "<a" not in answer
        assert "<img" not in answer
    assert "<img" not in await html("![far](https://a.example/i.png)")
    for near in ("/logout", "/i.png", await page.evaluate("location.origin + '/logout'")):
        assert "<img" not in await html(f"![near]({near})")
    assert ">far</a>" in await html("![far](https://a.example/i.png)")
    assert '<img src="data:image/png;base64,AAAA" alt="near"' in await html("![near](data:image/png;base64,AAAA)")
    assert "<img" not in await html("![x](data:image/svg+xml;base64,AAAA)")
