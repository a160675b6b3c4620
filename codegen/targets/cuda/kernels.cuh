/* Kernels over a matrix of rows and columns, in the memory order of the result.
 *
 * A tile belongs to few channels: either a row has one channel (BY_ROW), or each column has. Every
 * thread reads and writes WIDTH neighbouring columns at once, 128 bits where everything is aligned.
 * What a parameter gets is summed by each block in a fixed order, and the blocks' sums are added up
 * afterwards: the result does not depend on timing. */

#ifndef THREADS
#define THREADS 256
#endif

struct Sizes {
    long long rows, columns, column_blocks;
    long long channels, inner; /* channels of all; neighbouring columns of one channel */
    int row_steps, column_steps; /* tiles that a block goes through */
    int shift; /* 2^shift threads stand side by side, the others below */
};

/* types: half types compute in float */

struct half16 { unsigned short bits; };
struct brain16 { unsigned short bits; };

template <typename T> struct Real { typedef float type; enum { is_half = 1 }; };
template <> struct Real<float> { typedef float type; enum { is_half = 0 }; };
template <> struct Real<double> { typedef double type; enum { is_half = 0 }; };

static __device__ __forceinline__ float real(float a) { return a; }
static __device__ __forceinline__ double real(double a) { return a; }
static __device__ __forceinline__ float real(half16 a) {
#ifdef __CUDACC__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(a.bits));
    return value;
#else
    return half_to_float(a.bits);
#endif
}
static __device__ __forceinline__ float real(brain16 a) {
    return __uint_as_float((unsigned)a.bits << 16);
}

static __device__ __forceinline__ void put(float &to, float a) { to = a; }
static __device__ __forceinline__ void put(double &to, double a) { to = a; }
static __device__ __forceinline__ void put(half16 &to, float a) {
#ifdef __CUDACC__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(a));
#else
    to.bits = float_to_half(a);
#endif
}
static __device__ __forceinline__ void put(brain16 &to, float a) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(a));
#else
    unsigned bits = __float_as_uint(a);
    to.bits = a == a ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : 0x7fc0u;
#endif
}

template <typename T, int WIDTH> struct __align__(sizeof(T) * WIDTH) Vector { T items[WIDTH]; };

template <typename T, int WIDTH, typename R>
static __device__ __forceinline__ void load(const T *from, R *to) {
    const Vector<T, WIDTH> vector = *reinterpret_cast<const Vector<T, WIDTH> *>(from);
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) to[k] = real(vector.items[k]);
}

template <typename T, int WIDTH, typename R>
static __device__ __forceinline__ void store(T *to, const R *from) {
    Vector<T, WIDTH> vector;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) put(vector.items[k], from[k]);
    *reinterpret_cast<Vector<T, WIDTH> *>(to) = vector;
}

/* The parameter of a row, or of WIDTH columns. */
template <int WIDTH, bool BY_ROW, typename R>
static __device__ __forceinline__ void spread(
    const R *from, int is_channels, const Sizes &sizes, long long row, long long column, R *to) {
    const R first = from[is_channels && BY_ROW ? row % sizes.channels : 0];
    const unsigned inner = (unsigned)sizes.inner;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) {
        to[k] = first;
        if (is_channels && !BY_ROW) {
            const unsigned place = (unsigned)column + k;
            to[k] = from[inner == 1 ? place : place / inner];
        }
    }
}

/* Sums over a block: over its threads side by side, over those below each other, or over all. */
template <typename R>
static __device__ __forceinline__ R sum_of(R value, R *memory, int first, int last) {
    __syncthreads();
    memory[threadIdx.x] = value;
    for (int distance = last; distance > first; distance >>= 1) {
        __syncthreads();
        const int half = distance >> 1;
        if ((threadIdx.x & (distance - 1) & ~(first - 1)) < half)
            memory[threadIdx.x] += memory[threadIdx.x + half];
    }
    __syncthreads();
    return memory[threadIdx.x];
}

template <int WIDTH, bool BY_ROW, typename R>
static __device__ __forceinline__ void finish(
    const R *sums, int is_channels, const Sizes &sizes, unsigned block, R *partial, R *memory) {
    const long long row_block = block / sizes.column_blocks;
    const long long column_block = block % sizes.column_blocks;
    const int lanes = 1 << sizes.shift, lane = threadIdx.x & (lanes - 1);
    if (is_channels && !BY_ROW) {
        const long long column = (column_block * lanes + lane) * WIDTH;
#pragma unroll
        for (int k = 0; k < WIDTH; ++k) {
            const R total = sum_of(sums[k], memory, lanes, THREADS);
            if (threadIdx.x < lanes && column + k < sizes.columns)
                partial[row_block * sizes.columns + column + k] = total;
        }
        return;
    }
    R own = 0;
#pragma unroll
    for (int k = 0; k < WIDTH; ++k) own += sums[k];
    const R total = sum_of(own, memory, 1, is_channels ? lanes : THREADS);
    if (!is_channels) {
        if (threadIdx.x == 0) partial[block] = total;
    } else {
        const long long row = row_block * (THREADS >> sizes.shift) + (threadIdx.x >> sizes.shift);
        if (lane == 0 && row < sizes.rows) partial[row * sizes.column_blocks + column_block] = total;
    }
}
