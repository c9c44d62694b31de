/** The entry of a plugin's module, written for its author: it makes the policy and answers the host. */
import { HOOK_NAMES, type HookName, type PolicySource } from './policy-source.ts';

/** The class of the SDK that each hook's method takes. */
const QUESTIONS: Readonly<Record<HookName, string>> = { connect: 'Connection', dns: 'DnsAnswer', tls: 'TlsHello', http: 'HttpRequest' };

/** `imported` is the policy's file as the entry imports it. */
export function entrySource(policy: PolicySource, imported: string): string {
  const questions = [...policy.handlers.keys()].map((hook) => QUESTIONS[hook]);
  const cases = [...policy.handlers].map(
    ([hook, method]) =>
      `    case ${HOOK_NAMES.indexOf(hook)}: verdict = policy.${method}(changetype<${QUESTIONS[hook]}>(<usize>0)); break;`,
  );
  return `import { ${policy.className} } from ${JSON.stringify(imported)};
import { next, ${[...new Set(questions)].join(', ')} } from '@sluice/plugin-sdk';
import { configure, finish } from '@sluice/plugin-sdk/abi-exports';
import { givenReason, givenRoute, resetEvaluation, setNumbers } from '@sluice/plugin-sdk/state';
export { sluice_abi_v1, sluice_ctx, sluice_ctx_cap, sluice_res, sluice_cfg, sluice_cfg_cap } from '@sluice/plugin-sdk/abi-exports';

function find(kind: i32, name: string): i32 {
  if (kind == 0) {
${policy.tables.map(({ name }, i) => `    if (name == ${JSON.stringify(name)}) return ${i};`).join('\n')}
  } else {
${policy.sets.map((name, i) => `    if (name == ${JSON.stringify(name)}) return ${i};`).join('\n')}
  }
  return -1;
}
setNumbers(find);
const policy = new ${policy.className}();

/** Literals are told apart by where they lie: each stands once in the module. */
function reasonNumber(): u32 {
  const given = changetype<usize>(givenReason);
${policy.reasons.map((text, i) => `  if (given == changetype<usize>(${JSON.stringify(text)})) return ${i + 1};`).join('\n')}
  return 0;
}
function routeNumber(): u32 {
  const given = changetype<usize>(givenRoute);
${policy.routes.map((text, i) => `  if (given == changetype<usize>(${JSON.stringify(text)})) return ${i + 1};`).join('\n')}
  return 0;
}

export function sluice_init(length: i32): i32 { return configure(policy, length); }

export function sluice_eval(hook: i32): i32 {
  resetEvaluation();
  let verdict = next();
  switch (hook) {
${cases.join('\n')}
  }
  return finish(verdict, reasonNumber(), routeNumber());
}
`;
}
