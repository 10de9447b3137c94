import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.text.tokens import MAX_TOKENS, text_of, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("The Third Man, 1949!", ["the", "third", "man", "1949"]),
        ("Don't; don’t", ["don't", "don't"]),
        ("ＦＵＬＬ width ２０２４ ﬁne", ["full", "width", "2024", "fine"]),
        ("snake_case 🙂 ☕", ["snake", "case"]),
        ("<p class='a>b'>fish &amp; chips</p><!-- no --><script>var x=1</script>", ["b", "fish", "chips"]),
        ("1 < 2 > 0 <3", ["1", "2", "0", "3"]),
        ("<b>bold", ["bold"]),
        ("<script>never closed", []),
        ("서울", ["서울"]),
        ("서울에서 AI로", ["서울에서", "서울", "울에", "에서", "ai로"]),
        ("서울은 서울을", ["서울은", "서울", "울은", "서울을", "서울", "울을"]),
        ("인공\u3000지능\n뉴스", ["인공", "지능", "뉴스"]),
        ("인공지능", ["인공지능", "인공", "공지", "지능"]),
        ("ﾊﾝｸﾞﾙ", ["ハングル", "ハン", "ング", "グル"]),
        ("so\u00adcial co\u200dop \ufeffstart", ["social", "coop", "start"]),
        ("Caf\u0065\u0301 CAFÉ", ["café", "café"]),
        ("서울&nbsp;<b>여행</b>&#44608;치", ["서울", "여행", "김치"]),
        ("東京都", ["東京都", "東京", "京都"]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert tokens(text) == words


def test_particles_do_not_hide_a_korean_noun() -> None:
    assert "서울" in set(tokens("서울은")) & set(tokens("서울을")) & set(tokens("서울"))


def test_composed_and_decomposed_hangul_are_the_same() -> None:
    assert tokens("\u1109\u1165\u110b\u116e\u11af") == tokens("서울")


@given(st.text(max_size=300))
def test_any_text_has_words_or_none(text: str) -> None:
    assert all(word == word.lower() and word.strip() for word in tokens(text))


@pytest.mark.timeout(60)
def test_a_hostile_text_comes_to_an_end() -> None:
    for text in ("<script " * 250_000, "</script " * 250_000, "<script>" + "</script   " * 200_000):
        tokens(text)
    for text in ("<" * 20_000, "<a " * 7_000, "<!--" * 5_000, "<script>" * 2_500, "&" * 20_000, "가" * 20_000):
        assert len(tokens(text)) <= MAX_TOKENS


def test_the_text_of_a_content() -> None:
    assert text_of("Title", "Description") == "Title\nDescription"
    assert text_of("Title") == text_of("Title", None) == text_of("Title", "") == "Title"
    assert text_of("", "Description") == "Description"
    assert text_of("", None) == ""
