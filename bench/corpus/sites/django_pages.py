"""Run by the generators' own Python, in the folder of a site: django-machina and Spirit (forums), or django-wiki.

    python django_pages.py machina|spirit|wiki

``texts.json`` lists key, title and posts; pages are asked for as a browser would, and written as ``KEY.html``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.urls import include, path
from django.utils.dateparse import parse_datetime

_CORE = ["admin", "auth", "contenttypes", "humanize", "messages", "sessions", "sites", "staticfiles"]
_MACHINA = ["", "forum", "forum_conversation", "forum_conversation.forum_attachments", "forum_conversation.forum_polls",
            "forum_feeds", "forum_member", "forum_moderation", "forum_permission", "forum_search",
            "forum_tracking"]  # fmt: skip
_FORUM = ["mptt", "haystack", "widget_tweaks", *(f"machina.apps.{name}" if name else "machina" for name in _MACHINA)]
_WIKI = ["django_nyt.apps.DjangoNytConfig", "mptt", "sekizai", "wiki.apps.WikiConfig",
         "wiki.plugins.attachments.apps.AttachmentsConfig"]  # fmt: skip
_PROCESSORS = ["request", "media", "static", "tz"]
urlpatterns: list[Any] = []


def configure(kind: str) -> None:
    """Settings of a site with a database in memory."""
    cache = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    common = {
        "SECRET_KEY": "a site that lives for a second",
        "ALLOWED_HOSTS": ["*"],
        "ROOT_URLCONF": "__main__",
        "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        "CACHES": dict.fromkeys(("default", "machina_attachments", "st_rate_limit"), cache),
        "HAYSTACK_CONNECTIONS": {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}},
        "USE_TZ": True,
        "STATIC_URL": "/static/",
    }
    settings.configure(**(spirit_settings() if kind == "spirit" else other_settings(kind == "machina")) | common)
    django.setup()
    call_command("migrate", verbosity=0)


def spirit_settings() -> dict[str, Any]:
    """What Spirit's template of a project sets, with nothing that is written outside the database."""
    from spirit.extra.project_template.project_name.settings import base

    found = {name: value for name, value in vars(base).items() if name.isupper()}
    return found | {
        "HAYSTACK_SIGNAL_PROCESSOR": "haystack.signals.BaseSignalProcessor",
        "LOGGING": {},
        "ST_SITE_URL": "https://talk.example/",
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
    }


def other_settings(forum: bool) -> dict[str, Any]:
    """django-machina's settings, or django-wiki's."""
    processors = [f"django.template.context_processors.{name}" for name in _PROCESSORS]
    processors += ["django.contrib.auth.context_processors.auth", "django.contrib.messages.context_processors.messages"]
    processors.append("machina.core.context_processors.metadata" if forum else "sekizai.context_processors.sekizai")
    folders = []
    if forum:
        from machina import MACHINA_MAIN_TEMPLATE_DIR

        folders = [MACHINA_MAIN_TEMPLATE_DIR]
    middleware = [f"django.contrib.{name}" for name in (
        "sessions.middleware.SessionMiddleware", "auth.middleware.AuthenticationMiddleware",
        "messages.middleware.MessageMiddleware")]  # fmt: skip
    if forum:
        middleware.append("machina.apps.forum_permission.middleware.ForumPermissionMiddleware")
    templates = {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": folders,
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": processors},
    }
    return {
        "SITE_ID": 1,
        "INSTALLED_APPS": [*(f"django.contrib.{name}" for name in _CORE), *(_FORUM if forum else _WIKI)],
        "MIDDLEWARE": middleware,
        "TEMPLATES": [templates],
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
        "MACHINA_FORUM_NAME": "The valley talks",
    }


def machina(texts: list[dict[str, Any]]) -> dict[str, str]:
    """Threads in a forum that everybody may read; the address of each."""
    from django.contrib.auth.models import User
    from machina.apps.forum.models import Forum
    from machina.apps.forum_conversation.models import Post, Topic
    from machina.apps.forum_permission.models import ForumPermission, UserForumPermission

    urlpatterns.append(path("", include("machina.urls")))
    place = Forum.objects.create(name="House and garden", type=Forum.FORUM_POST)
    for name in ("can_see_forum", "can_read_forum"):
        permission = ForumPermission.objects.get(codename=name)
        UserForumPermission.objects.create(permission=permission, anonymous_user=True, forum=place, has_perm=True)
    addresses = {}
    for text in texts:
        topic = None
        for post in text["posts"]:
            user, _ = User.objects.get_or_create(username=post["author"].replace(" ", "_"))
            topic = topic or Topic.objects.create(
                subject=text["title"], forum=place, poster=user, type=Topic.TOPIC_POST, status=Topic.TOPIC_UNLOCKED
            )
            made = Post.objects.create(topic=topic, poster=user, subject=text["title"], content=post["body"])
            Post.objects.filter(pk=made.pk).update(created=parse_datetime(f"{post['day']}T09:30:00Z"))
        addresses[text["key"]] = f"/forum/{place.slug}-{place.pk}/topic/{topic.slug}-{topic.pk}/"
    return addresses


def spirit(texts: list[dict[str, Any]]) -> dict[str, str]:
    """Threads in Spirit, where a post is a comment; the address of each."""
    from django.contrib.auth.models import User
    from spirit.category.models import Category
    from spirit.comment.models import Comment
    from spirit.core.utils.markdown import Markdown
    from spirit.topic.models import Topic

    urlpatterns.append(path("", include("spirit.urls")))
    place = Category.objects.create(title="House and garden")
    addresses = {}
    for text in texts:
        topic = None
        for post in text["posts"]:
            # Spirit stores names in lower case.
            user, _ = User.objects.get_or_create(username=post["author"].replace(" ", "_").lower())
            topic = topic or Topic.objects.create(title=text["title"], category=place, user=user)
            html = Markdown().render(post["body"])
            when = parse_datetime(f"{post['day']}T09:30:00Z")
            Comment.objects.create(topic=topic, user=user, comment=post["body"], comment_html=html, date=when)
        addresses[text["key"]] = topic.get_absolute_url()
    return addresses


def wiki(texts: list[dict[str, Any]]) -> dict[str, str]:
    """Articles below the root of a wiki; the address of each."""
    from wiki.models import Article, URLPath

    urlpatterns.extend([path("notifications/", include("django_nyt.urls")), path("", include("wiki.urls"))])
    root = URLPath.create_root(title="Notes of the valley", content="What we wrote down.")
    Article.objects.update(other_read=True)
    for text in texts:
        URLPath.create_urlpath(root, text["key"], title=text["title"], content=text["posts"][0]["body"])
    return {text["key"]: f"/{text['key']}/" for text in texts}


def main() -> None:
    """Builds the site of the kind that is asked for, and writes its pages."""
    kind = sys.argv[1]
    configure(kind)
    from django.test import Client

    addresses = {"machina": machina, "spirit": spirit, "wiki": wiki}[kind](json.loads(Path("texts.json").read_text()))
    for key, address in addresses.items():
        answer = Client().get(address)
        if answer.status_code != 200:
            raise SystemExit(f"{address} answered {answer.status_code}")
        Path(f"{key}.html").write_bytes(answer.content)


if __name__ == "__main__":
    main()
