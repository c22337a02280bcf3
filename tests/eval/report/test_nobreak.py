"""Names that a browser keeps whole, and that stay text."""

from __future__ import annotations

import pytest

from moslora_xtuner.eval.report.nobreak import whole_words


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("SEED-img 50", '<span class="w">SEED-img</span> 50'),
        ("LLaMA-3+ViT LoRA", '<span class="w">LLaMA-3+ViT</span> LoRA'),
        ("95 % of 3", "95\u00a0% of 3"),
        ("p = 0.05 or p < 0.001", "p\u00a0=\u00a00.05 or p\u00a0<\u00a00.001".replace("<", "&lt;")),
        ("image_style", "image_style"),
        ("structuralized_imagetext_understanding", "structuralized_<wbr>imagetext_<wbr>understanding"),
        ("a-very-long-name-with-hyphens", "a-very-long-name-with-hyphens"),
        ("<b>-x</b> & <script>", '<span class="w">&lt;b&gt;-x&lt;/b&gt;</span> &amp; &lt;script&gt;'),
        ("<img_src=x_onerror=alert(1)>", "&lt;img_<wbr>src=x_<wbr>onerror=alert(1)&gt;"),
        (1.5, "1.5"),
    ],
)
def test_words(text: object, markup: str) -> None:
    assert str(whole_words(text)) == markup
