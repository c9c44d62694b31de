/** Pages lead where they say: every link to a file or a heading is there, and so is every file that CONTRIBUTING.md tells people to change. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const pages = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], { cwd: root, encoding: 'utf8' })
  .trim()
  .split('\n')
  .filter((page) => existsSync(join(root, page)));

/** As GitHub names headings. */
const anchor = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
const anchorsOf = (page: string): string[] =>
  [...readFileSync(join(root, page), 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) => anchor(heading));

describe.each(pages)('%s', (page) => {
  const text = readFileSync(join(root, page), 'utf8');
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link).filter((link) => !/^[a-z]+:/.test(link));

  test('links to what is there', () => {
    const broken = links.filter((link) => {
      const [path = '', heading] = link.split('#');
      const target = path ? join(dirname(page), path) : page;
      if (!existsSync(join(root, target))) return true;
      return heading !== undefined && !anchorsOf(target).includes(heading);
    });
    expect(broken).toEqual([]);
  });
});

test('there are pages with links', () => {
  expect(pages).toEqual(expect.arrayContaining(['README.md', '.github/CONTRIBUTING.md', 'engine/README.md', 'plugins/README.md']));
});

test('README.md leads to every room’s page', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  for (const page of pages.filter((name) => /^(?:\w+\/README|engine\/\w+\/README)\.md$/.test(name) && !name.startsWith('test/')))
    expect(readme, page).toContain(`](${page})`);
});

test('every file that CONTRIBUTING.md names is there', () => {
  const text = readFileSync(join(root, '.github/CONTRIBUTING.md'), 'utf8');
  const names = [...text.matchAll(/`((?:bpf|native|engine|plugins|test|deploy)\/[\w./-]*)`/g)].map(([, name = '']) => name);
  expect(names.length).toBeGreaterThan(20);
  expect(names.filter((name) => !existsSync(join(root, name)))).toEqual([]);
});
