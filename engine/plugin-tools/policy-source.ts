/**
 * The parts of a plugin's source that its build goes by: its decorators, and the names that it uses as literals.
 *
 * Works on the compiler's syntax tree. The fields that a plugin reads are not looked for here: which accessors of the SDK
 * were compiled says that exactly; see policy-transform.ts.
 */

/** Of the compiler's syntax tree, as much as is used here. */
export interface AstNode {
  readonly kind: number;
  readonly range: AstRange;
  readonly [key: string]: unknown;
}

export interface AstRange {
  readonly start: number;
  readonly source: AstSource;
}

export interface AstSource extends AstNode {
  readonly internalPath: string;
  readonly normalizedPath: string;
}

/** NodeKind and LiteralKind of assemblyscript 0.28. */
const LITERAL_KIND = { INTEGER: 1, STRING: 2, OBJECT: 6 } as const;

export const HOOK_NAMES = ['connect', 'dns', 'tls', 'http'] as const;
export type HookName = (typeof HOOK_NAMES)[number];

export interface Problem {
  readonly range: AstRange;
  readonly message: string;
}

export interface PolicySource {
  readonly className: string;
  /** Path of the class's file without its extension, as imports name it. */
  readonly file: string;
  readonly name: string;
  readonly version: string;
  readonly handlers: ReadonlyMap<HookName, string>;
  readonly headers: readonly string[];
  readonly cookies: readonly string[];
  readonly reasons: readonly string[];
  readonly routes: readonly string[];
  readonly tables: readonly { readonly name: string; readonly slots: number }[];
  readonly sets: readonly string[];
}

/** Names that authors reach for out of habit, and what there is in their place. */
const NOT_HERE: Readonly<Record<string, string>> = {
  'console.log': 'use log() of the SDK: it goes into the engine’s log',
  'console.error': 'use log() of the SDK: it goes into the engine’s log',
  'Date.now': 'use clock.unixMs() of the SDK and grant capability clock, or timeMs of the flow for how long something takes',
  'Math.random': 'a verdict must follow from its inputs; use id of the flow for a share of flows',
  'Math.seedRandom': 'a verdict must follow from its inputs',
  'process.exit': 'return a verdict',
  'process.stdout': 'use log() of the SDK',
};

export function readPolicySource(sources: readonly AstSource[]): { policy: PolicySource | undefined; problems: Problem[] } {
  const reader = new SourceReader();
  for (const source of sources) reader.walk(source);
  return reader.finish();
}

class SourceReader {
  readonly problems: Problem[] = [];
  readonly #seen = new Set<unknown>();
  readonly #policies: { node: AstNode; name: string; version: string }[] = [];
  readonly #handlers = new Map<HookName, string>();
  readonly #headers = new Set<string>();
  readonly #cookies = new Set<string>();
  readonly #reasons = new Set<string>();
  readonly #routes = new Set<string>();
  readonly #sets = new Set<string>();
  readonly #tables = new Map<string, number>();

  walk(value: unknown): void {
    if (!value || typeof value !== 'object' || this.#seen.has(value)) return;
    this.#seen.add(value);
    if (Array.isArray(value)) {
      for (const item of value) this.walk(item);
      return;
    }
    const node = value as AstNode;
    if (typeof node.kind !== 'number') return;
    this.#visit(node);
    for (const [key, child] of Object.entries(node)) if (key !== 'range' && key !== 'parent' && key !== 'source') this.walk(child);
  }

  finish(): { policy: PolicySource | undefined; problems: Problem[] } {
    const [first, second] = this.#policies;
    if (second) this.#refuse(second.node, 'a module has one policy: this is the second class with @policy');
    if (!first) return { policy: undefined, problems: this.problems };
    if (!this.#handlers.size) this.#refuse(first.node, 'no method says which hook it answers: put @on("connect"), for example, before one');
    const name = textOfName(first.node.name);
    return {
      problems: this.problems,
      policy: {
        className: name,
        file: first.node.range.source.normalizedPath.replace(/\.ts$/, ''),
        name: first.name,
        version: first.version,
        handlers: this.#handlers,
        headers: [...this.#headers],
        cookies: [...this.#cookies],
        reasons: [...this.#reasons],
        routes: [...this.#routes],
        tables: [...this.#tables].map(([table, slots]) => ({ name: table, slots })),
        sets: [...this.#sets],
      },
    };
  }

  #refuse(node: AstNode, message: string): void {
    this.problems.push({ range: node.range, message });
  }

  #visit(node: AstNode): void {
    for (const decorator of (node.decorators as AstNode[] | null) ?? []) this.#decorator(decorator, node);
    const called = dottedName(node.expression);
    const hint = node.args && NOT_HERE[called];
    if (hint) this.#refuse(node, `${called} is not there: ${hint}`);
    if (Array.isArray(node.args)) this.#call(node, called, node.args as AstNode[]);
  }

  #decorator(decorator: AstNode, owner: AstNode): void {
    const [argument] = (decorator.args as AstNode[] | null) ?? [];
    switch (dottedName(decorator.name)) {
      case 'policy': {
        const fields = literalObject(argument);
        if (!fields?.name || !fields.version) this.#refuse(decorator, 'write @policy({ name: "my-policy", version: "1.0.0" })');
        this.#policies.push({ node: owner, name: fields?.name ?? '', version: fields?.version ?? '' });
        return;
      }
      case 'on': {
        const hook = literalText(argument) as HookName | undefined;
        if (!hook || !HOOK_NAMES.includes(hook))
          this.#refuse(decorator, `write @on with one of ${HOOK_NAMES.map((name) => `"${name}"`).join(', ')}`);
        else if (this.#handlers.has(hook)) this.#refuse(decorator, `hook ${hook} is answered by ${this.#handlers.get(hook)} already`);
        else this.#handlers.set(hook, textOfName(owner.name));
      }
    }
  }

  #call(node: AstNode, called: string, args: readonly AstNode[]): void {
    const method = called.slice(called.lastIndexOf('.') + 1);
    const first = literalText(args[0]);
    const named = (names: Set<string>, what: string): void => {
      if (first === undefined) this.#refuse(node, `the name of a ${what} must be a literal: the host copies only what the manifest names`);
      else names.add(first);
    };
    if (method === 'header' && called.includes('.')) {
      named(this.#headers, 'header');
      if (first !== undefined && first !== first.toLowerCase())
        this.#refuse(node, `header names are in lower case here: "${first.toLowerCase()}"`);
    } else if (method === 'cookie' && called.includes('.')) named(this.#cookies, 'cookie');
    else if ((called === 'deny' || called === 'nxdomain' || called === 'audit') && first !== undefined) this.#reasons.add(first);
    else if (called === 'route') named(this.#routes, 'route');
    else if (isNew(node) && typeName(node) === 'HostSet') named(this.#sets, 'set');
    else if (isNew(node) && typeName(node) === 'Counters') this.#table(node, first, args[1]);
  }

  #table(node: AstNode, name: string | undefined, slots: AstNode | undefined): void {
    const count = slots && slots.literalKind === LITERAL_KIND.INTEGER ? Number(slots.value) : undefined;
    if (name === undefined || count === undefined) this.#refuse(node, 'write new Counters("name", 1024): name and size must be literals');
    else if ((this.#tables.get(name) ?? count) !== count) this.#refuse(node, `table ${name} has another size elsewhere`);
    else this.#tables.set(name, count);
  }
}

function isNew(node: AstNode): boolean {
  return node.typeName !== undefined;
}

function typeName(node: AstNode): string {
  return textOfName((node.typeName as AstNode | undefined)?.identifier);
}

function textOfName(node: unknown): string {
  return String((node as { text?: string } | undefined)?.text ?? '');
}

/** `a.b.c` of property accesses, `?` for what is no name; empty when it is neither. */
function dottedName(node: unknown): string {
  const { text, property, expression } = (node ?? {}) as { text?: string; property?: AstNode; expression?: AstNode };
  if (property) return `${dottedName(expression) || '?'}.${textOfName(property)}`;
  return text ?? '';
}

function literalText(node: AstNode | undefined): string | undefined {
  return node?.literalKind === LITERAL_KIND.STRING ? String(node.value) : undefined;
}

function literalObject(node: AstNode | undefined): Record<string, string> | undefined {
  if (node?.literalKind !== LITERAL_KIND.OBJECT) return undefined;
  const names = node.names as AstNode[];
  const values = node.values as AstNode[];
  return Object.fromEntries(names.map((name, i) => [textOfName(name), literalText(values[i]) ?? '']));
}
