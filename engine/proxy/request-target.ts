/**
 * The host and the target of a request, which decisions go by: the same check whatever version of HTTP says them. Whatever somebody
 * behind us could read in another way than we do is none.
 */

const HOST = /^(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/;
/** Visible ASCII. A fragment is never sent (RFC 9110, 4.2.5): some cut it off, and take what is in front of it for the path. */
const PATH = /^\/[!"$-~]*$/;

export interface Target {
  /** Before the question mark. */
  readonly path: string;
  readonly query: string;
}

/** The host of a Host header or an `:authority`, without its port, as it was sent; undefined where it is none. Nothing is the empty one. */
export function hostOf(authority: string): string | undefined {
  if (!authority) return '';
  return HOST.test(authority) ? authority.replace(/:[0-9]*$/, '') : undefined;
}

/** Path and query of a target that begins with its path; undefined where it is none. */
export function targetOf(target: string): Target | undefined {
  if (!PATH.test(target)) return undefined;
  const mark = target.indexOf('?');
  return mark < 0 ? { path: target, query: '' } : { path: target.slice(0, mark), query: target.slice(mark + 1) };
}
