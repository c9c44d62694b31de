/** The beginning of a plugin: source and manifests, ready to build and push. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { EngineError } from '../errors.ts';

const source = (name: string): string => `/** ${name}: say here in one sentence what it decides. */
import { allow, Connection, ConnectPolicy, deny, register, Verdict } from '@sluice/plugin-sdk';

class Policy extends ConnectPolicy {
  onConnect(connection: Connection): Verdict {
    if (connection.destination.label('app').equals('backend') && connection.port == 80) return allow().perIdentity(30000);
    return deny('only app=backend on port 80').perIdentity(30000);
  }
}

register(new Policy());
`;

const manifests = (name: string): string => `apiVersion: sluice.dev/v1alpha1
kind: PolicyPlugin
metadata: { name: ${name} }
spec:
  module: { file: build/${name}.wasm }
  failurePolicy: Deny
---
apiVersion: sluice.dev/v1alpha1
kind: PluginPolicy
metadata: { name: ${name}, namespace: default }
spec:
  podSelector: { matchLabels: { app: frontend } }
  egress:
  - ask: { plugin: ${name}, context: connect }
`;

/** Makes a folder for a plugin. @throws EngineError `PLUGIN_BUILD` when the name is no name, or the folder exists. */
export function newPlugin(directory: string): string[] {
  const name = basename(directory);
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
    throw new EngineError('PLUGIN_BUILD', `Cannot make plugin ${name}: a name has lower-case letters, digits and dashes`);
  if (existsSync(directory)) throw new EngineError('PLUGIN_BUILD', `Cannot make plugin ${directory}: it exists already`);
  mkdirSync(directory, { recursive: true });
  const files = [
    [join(directory, 'index.ts'), source(name)],
    [join(directory, `${name}.yaml`), manifests(name)],
  ] as const;
  for (const [path, text] of files) writeFileSync(path, text);
  return files.map(([path]) => path);
}
