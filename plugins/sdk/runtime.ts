/**
 * The memory of a plugin: an arena. What is allocated while the plugin starts stays; what an evaluation allocates is
 * gone when it ends, so that ordinary strings cost little and memory stays flat.
 *
 * Consequence: an evaluation must not keep what it allocates in a global. Tables are made at the start, with their size.
 *
 * A block is preceded by its size (u32); an object by a header of 16 bytes, of which the last 8 are class id and size.
 */

const BLOCK_HEADER: usize = 16;
const OBJECT_HEADER: usize = 16;
const BLOCK_MAX: usize = 0x3fffffff;

// @ts-ignore: decorator
@lazy let top: usize = (__heap_base + 15) & ~15;
// @ts-ignore: decorator
@lazy let kept: usize = 0;

function reserve(end: usize): void {
  const have = <usize>memory.size() << 16;
  if (end > have && memory.grow(<i32>((end - have + 0xffff) >>> 16)) < 0) unreachable();
}

// @ts-ignore: decorator
@unsafe @global export function __alloc(size: usize): usize {
  const block = top + BLOCK_HEADER;
  const rounded = (size + 15) & ~15;
  if (rounded < size || rounded > BLOCK_MAX) unreachable();
  reserve(block + rounded);
  store<u32>(block - 4, <u32>rounded);
  top = block + rounded;
  return block;
}

// @ts-ignore: decorator
@unsafe @global export function __realloc(block: usize, size: usize): usize {
  const before = <usize>load<u32>(block - 4);
  if (size <= before) return block;
  if (block + before == top) {
    const rounded = (size + 15) & ~15;
    if (rounded < size || rounded > BLOCK_MAX) unreachable();
    reserve(block + rounded);
    store<u32>(block - 4, <u32>rounded);
    top = block + rounded;
    return block;
  }
  const moved = __alloc(max<usize>(size, before << 1));
  memory.copy(moved, block, before);
  return moved;
}

// @ts-ignore: decorator
@unsafe @global export function __free(block: usize): void {
  if (block + <usize>load<u32>(block - 4) == top) top = block - BLOCK_HEADER;
}

// @ts-ignore: decorator
@unsafe @global export function __new(size: usize, id: u32): usize {
  const object = __alloc(OBJECT_HEADER + size) + OBJECT_HEADER;
  store<u32>(object - 8, id);
  store<u32>(object - 4, <u32>size);
  memory.fill(object, 0, size);
  return object;
}

// @ts-ignore: decorator
@unsafe @global export function __renew(object: usize, size: usize): usize {
  const before = <usize>load<u32>(object - 4);
  const moved = __realloc(object - OBJECT_HEADER, OBJECT_HEADER + size) + OBJECT_HEADER;
  store<u32>(moved - 4, <u32>size);
  if (size > before) memory.fill(moved + before, 0, size - before);
  return moved;
}

// @ts-ignore: decorator
@unsafe @global export function __link(parent: usize, child: usize, expectMultiple: bool): void {}
// @ts-ignore: decorator
@unsafe @global export function __pin(object: usize): usize { return object; }
// @ts-ignore: decorator
@unsafe @global export function __unpin(object: usize): void {}
// @ts-ignore: decorator
@unsafe @global function __visit(object: usize, cookie: u32): void {}
// @ts-ignore: decorator
@unsafe @global export function __collect(): void {}

/** Keeps what is allocated so far. */
// @ts-ignore: decorator
@unsafe @global export function __arena_keep(): void { kept = top; }
/** Forgets what was allocated since. */
// @ts-ignore: decorator
@unsafe @global export function __arena_release(): void { top = kept; }
