/** The plugin's configuration: `spec.config` of its PolicyPlugin, flattened to one `path = value` a line. */
export class Config {
  private lines: string[];

  constructor(text: string) {
    this.lines = text.split('\n');
  }

  /** The value at a path such as `limits.burst`; the default when there is none. */
  text(path: string, otherwise: string = ''): string {
    const prefix = path + ' = ';
    for (let i = 0; i < this.lines.length; i++) if (this.lines[i].startsWith(prefix)) return this.lines[i].slice(prefix.length);
    return otherwise;
  }

  /** The number at a path. Throws, and so refuses the configuration, when it is none. */
  number(path: string, otherwise: f64): f64 {
    const text = this.text(path);
    if (!text.length) return otherwise;
    const value = parseFloat(text);
    if (isNaN(value)) throw new Error(path + ' must be a number, not "' + text + '"');
    return value;
  }

  /** The items of the list at a path; empty when there is none. */
  list(path: string): string[] {
    const items = new Array<string>();
    for (let i = 0, item = this.text(path + '.0'); item.length; item = this.text(path + '.' + i.toString())) {
      items.push(item);
      i++;
    }
    return items;
  }

  /** How many maps the list at a path holds, read as `path.0.name` and so on. */
  count(path: string): i32 {
    let count = 0;
    while (this.has(path + '.' + count.toString())) count++;
    return count;
  }

  private has(path: string): bool {
    for (let i = 0; i < this.lines.length; i++) if (this.lines[i].startsWith(path + '.') || this.lines[i].startsWith(path + ' ')) return true;
    return false;
  }
}
