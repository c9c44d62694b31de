/**
 * The compiler transform: reads a plugin's decorators, adds its entry, and writes its manifest into the module.
 *
 * Fields: an accessor of the SDK is compiled only when something reaches it, so the compiled ones are what the plugin
 * can read, helpers in other files included and dead code left out.
 */
import { Transform } from 'assemblyscript/transform';
import { MANIFEST_SECTION } from '../plugin-runtime/abi.ts';
import { ACCESSOR_FIELDS, HOST_CAPABILITIES } from './accessors.ts';
import { entrySource } from './entry-source.ts';
import { type AstRange, type AstSource, type PolicySource, readPolicySource } from './policy-source.ts';

/** CommonFlags.Compiled and DiagnosticCode.User_defined_0 of assemblyscript 0.28. */
const COMPILED = 1 << 23;
const USER_DEFINED = 102;
const SDK = '~lib/@sluice/plugin-sdk/';
const ENTRY = 'sluice-plugin.ts';

/** Fields that the compiler sets on a transform before it runs; see Transform in assemblyscript's documentation. */
interface Compiler {
  readonly program: {
    readonly instancesByName: ReadonlyMap<string, { readonly flags: number }>;
    error(code: number, range: AstRange | null, message: string): void;
  };
}

interface Parser {
  readonly sources: readonly AstSource[];
  parseFile(text: string, path: string, isEntry: boolean): void;
}

export class PolicyTransform extends Transform {
  #policy: PolicySource | undefined;

  afterParse(parser: Parser): void {
    const own = parser.sources.filter((source) => !source.internalPath.startsWith('~lib/'));
    const { policy, problems } = readPolicySource(own);
    for (const { range, message } of problems) this.#refuse(range, message);
    if (!policy) this.#refuse(null, 'no class has @policy({ name: "my-policy", version: "1.0.0" })');
    if (!policy || problems.length) return;
    this.#policy = policy;
    parser.parseFile(entrySource(policy, `./${policy.file}`), ENTRY, true);
  }

  afterCompile(module: { addCustomSection(name: string, content: Uint8Array): void }): void {
    if (!this.#policy) return;
    const { name, version, handlers, headers, cookies, tables, sets, reasons, routes } = this.#policy;
    const manifest = {
      abi: 1,
      name,
      version,
      hooks: [...handlers.keys()],
      fields: this.#compiled(ACCESSOR_FIELDS),
      headers,
      cookies,
      capabilities: this.#compiled(HOST_CAPABILITIES),
      tables,
      sets,
      reasons,
      routes,
    };
    module.addCustomSection(MANIFEST_SECTION, new TextEncoder().encode(JSON.stringify(manifest)));
  }

  #compiled(names: ReadonlyMap<string, string>): string[] {
    const { instancesByName } = (this as unknown as Compiler).program;
    const found = new Set<string>();
    for (const [accessor, name] of names) {
      const instance = instancesByName.get(SDK + accessor);
      if (instance && instance.flags & COMPILED) found.add(name);
    }
    return [...found];
  }

  #refuse(range: AstRange | null, message: string): void {
    (this as unknown as Compiler).program.error(USER_DEFINED, range, message);
  }
}
