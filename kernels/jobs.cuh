// jobs.cuh: several launches of a kernel in one. `NAME_many` does what launches of `NAME` would, with a table of their arguments: a job
// after the other, WIDTH words of 64 bits each, first the number of the job's first block and then its arguments, each at the front of a word.
#pragma once
#include "common.cuh"

typedef unsigned long long Word;

// The job of this block: the last one whose first block is not behind it.
template <int WIDTH>
__device__ __forceinline__ const Word* job_of_block(const Word* jobs, int count) {
  int low = 0, high = count;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (jobs[(size_t)middle * WIDTH] <= blockIdx.x) low = middle;
    else high = middle;
  }
  return jobs + (size_t)low * WIDTH;
}

template <class Number>
__device__ __forceinline__ Number* pointer_of(Word word) {
  return reinterpret_cast<Number*>(word);
}

__device__ __forceinline__ int int_of(Word word) { return (int)(unsigned)word; }
