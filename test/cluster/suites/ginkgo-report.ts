/** ginkgo's JSON report: what became of each spec. */

/** As ginkgo writes it, as far as it is read. */
interface SpecReport {
  readonly ContainerHierarchyTexts: readonly string[] | null;
  readonly LeafNodeType: string;
  readonly LeafNodeText: string;
  readonly State: string;
  /** Nanoseconds. */
  readonly RunTime: number;
  readonly Failure?: { readonly Message?: string; readonly Location?: { readonly FileName?: string; readonly LineNumber?: number } };
}

interface SuiteReport {
  readonly SuiteSucceeded: boolean;
  readonly SpecialSuiteFailureReasons?: readonly string[] | null;
  readonly SpecReports: readonly SpecReport[] | null;
}

export interface Outcome {
  readonly name: string;
  readonly state: 'passed' | 'failed';
  readonly seconds: number;
  /** Why it failed, and where. */
  readonly reason?: string;
}

/** Specs that did not run, because they were not asked for. */
const LEFT_OUT = ['skipped', 'pending'];

/**
 * The outcomes in the text of a report: every spec that ran, whatever else failed (such as what comes before all specs), and a suite that
 * failed without saying which of its specs did. Nothing of what was left out.
 */
export function outcomesIn(report: string): Outcome[] {
  const suites = JSON.parse(report) as readonly SuiteReport[];
  return suites.flatMap((suite) => {
    const outcomes = (suite.SpecReports ?? []).filter(counts).map(outcomeOf);
    if (suite.SuiteSucceeded || outcomes.some(({ state }) => state === 'failed')) return outcomes;
    const reason = suite.SpecialSuiteFailureReasons?.join('; ') || 'ginkgo does not say why';
    return [...outcomes, { name: 'the suite', state: 'failed' as const, seconds: 0, reason }];
  });
}

/** Specs, and of anything else what failed. */
function counts({ LeafNodeType, State }: SpecReport): boolean {
  return LeafNodeType === 'It' ? !LEFT_OUT.includes(State) : ![...LEFT_OUT, 'passed', ''].includes(State);
}

function outcomeOf({ ContainerHierarchyTexts, LeafNodeText, LeafNodeType, State, RunTime, Failure }: SpecReport): Outcome {
  const name = [...(ContainerHierarchyTexts ?? []), LeafNodeText || LeafNodeType].join(' ');
  const seconds = RunTime / 1e9;
  if (State === 'passed') return { name, state: 'passed', seconds };
  const place = Failure?.Location?.FileName ? ` (${Failure.Location.FileName}:${Failure.Location.LineNumber})` : '';
  return { name, state: 'failed', seconds, reason: `${State}: ${Failure?.Message?.trim() || 'no reason is told'}${place}` };
}
