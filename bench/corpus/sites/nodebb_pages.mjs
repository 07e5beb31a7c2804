// Renders threads in the templates of a NodeBB theme.  Run in the folder of a site, with NODE_PATH set:
//     node nodebb_pages.mjs nodebb-theme-persona
// texts.json lists key, title and posts (author, day, body in Markdown); a page is written as KEY.html.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const require = createRequire(path.join(process.env.NODE_PATH, 'x.js'));
const benchpress = require('benchpressjs');
const markdown = require('markdown-it')();
const templates = path.join(process.env.NODE_PATH, process.argv[2], 'templates');

// What NodeBB's own core would bring (badges, status lights) is left empty.
function source(name) {
  const file = path.join(templates, name);
  if (!fs.existsSync(file)) return '';
  return fs.readFileSync(file, 'utf8').replace(/<!-- IMPORT (\S+) -->/g, (_, inner) => source(inner));
}

const escape = (text) => String(text ?? '').replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
// "topic:watching.description" is shown as "Watching description".
function words(key, ...values) {
  const text = String(key ?? '').replace(/^.*:/, '').replace(/[-._]/g, ' ');
  return escape([text.charAt(0).toUpperCase() + text.slice(1), ...values].join(' ').trim());
}
const helpers = {
  tx: words,
  txEscape: escape,
  txDisplayname: (user) => escape(user?.username),
  renderShortcodeEmoji: (text) => text ?? '',
  encodeURIComponent,
  increment: (number, by) => Number(number) + Number(by),
  greaterthan: (one, other) => Number(one) > Number(other),
  isoTimeToLocaleString: (time) => String(time ?? '').slice(0, 10),
  buildAvatar: (user) => `<span class="avatar" title="${escape(user?.username)}">${escape(user?.username?.[0])}</span>`,
  buildCategoryLabel: (category) => `<a href="/category/${category.slug}" class="badge">${escape(category.name)}</a>`,
  generateWrote: (post) => `wrote on <a class="timeago" href="/post/${post.pid}">${post.timestampISO.slice(0, 10)}</a>`,
  localeToHTML: () => 'en',
};

// Helpers that are missing give nothing, so that only those above need to be there.
for (const [name, helper] of Object.entries(helpers)) benchpress.registerHelper(name, helper);
const page = ['header.tpl', 'topic.tpl', 'footer.tpl'].map(source).join('');
for (const text of JSON.parse(fs.readFileSync('texts.json', 'utf8'))) {
  const posts = text.posts.map((post, index) => ({
    index, pid: index + 101, content: markdown.render(post.body), votes: (index * 7) % 4, upvotes: 1, downvotes: 0,
    timestampISO: `${post.day}T09:30:00.000Z`, editedISO: '', events: [], replies: { count: 0, text: '' },
    user: { username: post.author, userslug: post.author.toLowerCase(), uid: index, selectedGroups: [] },
    editor: {}, parent: { user: {} },
  }));
  const category = { name: 'House and garden', slug: '5/house-and-garden', cid: 5 };
  const data = {
    title: text.title, browserTitle: `${text.title} | The valley talks`, posts, category, tid: 77, cid: 5,
    postcount: posts.length, postercount: 3, viewcount: 1204, tags: [], icons: [], thumbs: [],
    breadcrumbs: [{ text: 'Home', url: '/' }, { text: category.name, url: '/category/5' }, { text: text.title }],
    navigation: ['categories', 'recent', 'tags', 'popular', 'users', 'groups'].map((name) => (
      { enabled: true, id: name, route: `/${name}`, text: words(name), title: words(name), iconClass: 'fa-list' })),
    widgets: { header: [], footer: [], sidebar: [] }, privileges: {}, loggedInUser: {}, user: {}, bodyClass: 'page-topic',
    config: { relative_path: '', loggedIn: false, theme: { enableBreadcrumbs: true } },
  };
  fs.writeFileSync(`${text.key}.html`, await benchpress.compileRender(page, data));
}
