"""Threads of forums: the posts come out, the frames around them do not, and a page that is no thread is left alone."""

import pytest
from selectolax.lexbor import LexborHTMLParser

from herd.corpus.extract import extract_html
from herd.corpus.layout import read_blocks
from herd.corpus.threads import find_posts

POSTS = (
    "The chain jumps on the two smallest sprockets, and I wonder why.",
    "Worn teeth.",
    "You can buy these sprockets one by one, which is far cheaper than a new cassette.",
    "Solved, thanks!",
)
# A post as five kinds of software write it: the frame of a post, with its number and its text to be filled in.
FRAMES = {
    "named for posts": '<div class="card post" id="p{n}"><h4>Chain jumps</h4><small>By Ann on May 3, 2024</small>'
    '<div class="post-content"><p>{text}</p></div></div>',
    "plain names in a unit": '<div class="post bg{n}"><dl class="profile"><dt>Ann</dt><dd>Posts: 12</dd></dl>'
    '<h3>Re: Chain jumps</h3><div class="content">{text}</div></div>',
    "numbered ids": '<table><tr><td>Ann<br>Senior member</td><td><div id="post_message_{n}">{text}</div></td></tr>'
    "</table>",
    "a property of schema.org": '<li itemscope><span itemprop="author">Ann</span> wrote a while ago'
    '<div itemprop="text"><p>{text}</p></div><a href="#">Reply</a></li>',
    "a message": '<article class="message"><aside>Ann, newcomer</aside><div class="bbWrapper">{text}</div></article>',
}


def thread(frame: str) -> str:
    posts = "".join(frame.format(n=number, text=text) for number, text in enumerate(POSTS))
    about = "<p>House and garden, where everybody may ask whatever there is to ask.</p>"
    return f"<title>Chain jumps | The valley talks</title><h1>Chain jumps</h1>{about}<div>{posts}</div>"


@pytest.mark.parametrize("name", FRAMES)
def test_posts_come_out_whole_and_alone(name: str) -> None:
    footer = "<h3>Who is here</h3><ul><li>Ann</li></ul><h3>Rules of this place</h3><p>Be kind.</p>"
    assert extract_html(thread(FRAMES[name]) + footer).text == "\n\n".join(POSTS)


def test_a_page_that_is_all_comments_is_the_talk_itself() -> None:
    rest = "And so on, at some length, as people do."
    talk = "".join(f'<div class="comment"><p>{text} {rest}</p></div>' for text in POSTS)
    article = f"<article><p>{POSTS[0] * 9}</p><p>{POSTS[2] * 9}</p></article>"
    alone = extract_html(f"<title>Talk</title><h1>Talk</h1><div class=comments>{talk}</div>").text
    beside = extract_html(f"<title>Talk</title>{article}<div class=comments>{talk}</div>").text
    assert [alone.count(rest), beside.count(rest)] == [4, 0]


def test_quotes_within_posts_stay() -> None:
    quote = "<blockquote><p>Worn teeth.</p></blockquote><p>That may be, since the old chain was long.</p>"
    html = thread(FRAMES["named for posts"]).replace(f"<p>{POSTS[3]}</p>", quote)
    assert extract_html(html).text.endswith("Worn teeth.\n\nThat may be, since the old chain was long.")


def test_the_list_of_a_blogs_articles_is_no_thread() -> None:
    posts = "".join(f'<div class="post"><h2>Day {n}</h2><div class="entry-content"><p>{text * 3}</p></div></div>'
                    for n, text in enumerate(POSTS))  # fmt: skip
    text = extract_html(f"<title>A blog</title><div id=main>{posts}</div>").text
    assert [f"Day {n}" in text for n in range(4)] == [True] * 4


@pytest.mark.parametrize(
    "html",
    [
        "<p>Nothing here is named for a post.</p>" * 3,
        f'<div class="post-content"><p>{POSTS[0]}</p></div>',
        f'<p>{POSTS[2] * 9}</p><div class="post-content">a</div><div class="post-content">b</div>',
        f'<div class="post-content">a<div class="post-content">{POSTS[0]}</div></div>',
        "",
    ],
)
def test_other_pages_are_no_threads(html: str) -> None:
    body = LexborHTMLParser(f"<body>{html}</body>").body
    assert body is not None
    assert find_posts(read_blocks(body, lambda node, tag, attributes: False), "") == set()
