/**
 * The path of a request as policy sees it: what the backend may take it for, in one way of writing.
 *
 * A backend may resolve dot segments, decode what needs no encoding and join slashes. A plugin that denies `/admin` must not be
 * passed by `/./admin`, `/%61dmin` or `//admin` (RFC 3986, 6.2.2). The request itself goes on as it came.
 */
const UNUSUAL = /%|\/\/|\/\.|\\/;

export function policyPath(path: string): string {
  if (!UNUSUAL.test(path)) return path;
  const decoded = path.replace(/%([0-9A-Fa-f]{2})/g, (escaped, digits: string) => {
    const code = Number.parseInt(digits, 16);
    return code > 0x20 && code < 0x7f && code !== 0x25 ? String.fromCharCode(code) : escaped.toUpperCase();
  });
  const segments: string[] = [];
  const parts = decoded.replaceAll('\\', '/').split('/');
  for (const segment of parts) {
    if (segment === '' || segment === '.') continue;
    if (segment === '..') segments.pop();
    else segments.push(segment);
  }
  const last = parts.at(-1);
  const folder = segments.length > 0 && (last === '' || last === '.' || last === '..');
  return `/${segments.join('/')}${folder ? '/' : ''}`;
}
