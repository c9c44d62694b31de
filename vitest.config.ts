import { defineConfig } from 'vitest/config';

/** How much longer than elsewhere tests may take: on an emulated machine, ten times. */
const slow = Number(process.env.SLUICE_TEST_SLOW ?? 1);

/**
 * `fast` and `slow` need no root; `fast` is what `npm run check` runs, and leaves out what compiles plugins or goes through a million
 * inputs. `kernel` loads programs and makes network namespaces, one file after another. Every test is in one of them.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'fast',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.{slow,kernel}.test.ts'],
          testTimeout: 20_000,
          // Loading every room anew for each file is half of the time; nothing in them is kept from one test to the next.
          isolate: false,
        },
      },
      { test: { name: 'slow', include: ['test/**/*.slow.test.ts'], testTimeout: 20_000 } },
      {
        test: {
          name: 'kernel',
          include: ['test/**/*.kernel.test.ts'],
          globalSetup: ['test/support/require-kernel.ts'],
          fileParallelism: false,
          testTimeout: 60_000 * slow,
          hookTimeout: 60_000 * slow,
        },
      },
    ],
  },
});
