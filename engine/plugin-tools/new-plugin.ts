/** The beginning of a plugin: source, cases, manifests and a page about it, ready to test and push. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { EngineError } from '../errors.ts';

const source = (name: string, className: string): string => `/** ${name}: say here in one sentence what it decides. */
import { allow, Config, Connection, deny, Policy, Verdict } from '@sluice/plugin-sdk';

@policy({ name: '${name}', version: '0.1.0' })
export class ${className} extends Policy {
  private app: string = 'backend';

  // Takes spec.config of the PolicyPlugin; throw to refuse it.
  configure(config: Config): void {
    this.app = config.text('app', this.app);
  }

  // Asked about the first packet of each connection that a PluginPolicy tags. perIdentity() has the kernel answer for
  // all pods of the same labels from then on, for so many milliseconds.
  @on('connect')
  onConnect(connection: Connection): Verdict {
    if (connection.destination.label('app').equals(this.app) && connection.port == 80) return allow().perIdentity(30000);
    return deny('only the backend on port 80').perIdentity(30000);
  }
}
`;

const cases = `# What the plugin is expected to say. Run them with: sluice plugin test
config: { app: backend }
cases:
  - name: allows the backend
    flow: { from: { pod: default/frontend }, to: { pod: default/backend, labels: { app: backend }, port: 80 } }
    expect: { verdict: allow, scope: identity }
  - name: denies everything else, with a reason
    flow: { to: { address: 203.0.113.7, port: 443 } }
    expect: { verdict: deny, reason: only the backend on port 80 }
`;

const manifests = (name: string): string => `# The module and how to treat it.
apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: ${name} }
spec:
  module: { file: build/${name}.wasm }
  failurePolicy: Deny       # what flows get when the plugin cannot answer
  config: { app: backend }
---
# Which flows ask it.
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${name}, namespace: default }
spec:
  podSelector: { matchLabels: { app: frontend } }
  egress:
  - ask: { plugin: ${name}, context: connect }
`;

const readme = (name: string): string => `# ${name}

Say here what it decides, and for whom.

\`\`\`sh
sluice plugin test ${name}                  # build it and put cases.yaml to it
sluice plugin bench ${name}                 # what an evaluation takes
sluice plugin push ${name} ${name} --mode shadow   # run it beside the live version, and see what would change
sluice plugin watch ${name}                 # all of this at each save
\`\`\`

\`${name}.yaml\` declares it: put that and \`build/\` side by side into a folder of the engine's source directory.
`;

/** Types for editors: AssemblyScript's own, and the SDK's. */
const tsconfig = JSON.stringify({ extends: 'assemblyscript/std/assembly.json', include: ['./**/*.ts'] }, null, 2);

/** Makes a folder for a plugin; returns its files. @throws EngineError `PLUGIN_BUILD` when the name is no name, or the folder exists. */
export function newPlugin(directory: string): string[] {
  const name = basename(resolve(directory));
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
    throw new EngineError('PLUGIN_BUILD', `Cannot make plugin ${name}: a name has lower-case letters, digits and dashes`);
  if (existsSync(directory)) throw new EngineError('PLUGIN_BUILD', `Cannot make plugin ${directory}: it exists already`);
  const className = classNameOf(name);
  mkdirSync(directory, { recursive: true });
  const files = [
    ['index.ts', source(name, className)],
    ['cases.yaml', cases],
    [`${name}.yaml`, manifests(name)],
    ['README.md', readme(name)],
    ['tsconfig.json', `${tsconfig}\n`],
  ] as const;
  return files.map(([file, text]) => {
    const path = join(directory, file);
    writeFileSync(path, text);
    return path;
  });
}

/** `my-policy` → `MyPolicy`, `rate` → `RatePolicy`: never a name of the SDK's own. */
function classNameOf(name: string): string {
  const camel = name.replace(/(^|-)([a-z0-9])/g, (_match, _dash, letter: string) => letter.toUpperCase());
  const named = /^[0-9]/.test(camel) ? `The${camel}` : camel;
  if (named === 'Policy') return 'MyPolicy';
  return named.endsWith('Policy') ? named : `${named}Policy`;
}
