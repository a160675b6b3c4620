/* Elementary functions for the target `cpu`: no headers, no calls in float32, no branches, so that
 * loops over them vectorise. `name_f32` and `name_f64` compute one operator of the table;
 * `name_wide_f32(a, low)` computes it at a + low, where `low` is what rounding took from a;
 * `name_pair_f32(a, low, &rest)` as well, and what the result lacks in turn.
 *
 * A float32 function is accurate to one or two ulps (the tests measure it) wherever it does not set
 * `lost`: for arguments that are too large, or NaN, the caller computes in float64 instead. Where
 * nothing was taken, `low` is -0.0f: compilers know that it changes no sum.
 * Coefficients are minimax fits, with the interval and the largest relative error beside them. */

#define INLINE static inline __attribute__((always_inline, unused))
#define INFINITE __builtin_inff()
#define UNDEFINED __builtin_nanf("")
#define fma32 __builtin_fmaf

#ifdef FAST /* what a loop collects `lost` in */
#define NARROW int
#else /* half as wide as a float: two vectors side by side, of which one need not wait */
#define NARROW unsigned short
#endif

#ifdef VECTOR_MATH /* the C library has vector forms of these */
#define LIBRARY __attribute__((const, nothrow, simd("notinbranch")))
#else
#define LIBRARY __attribute__((const, nothrow))
#endif

LIBRARY double exp(double);
LIBRARY double expm1(double);
LIBRARY double log(double);
LIBRARY double log1p(double);
LIBRARY double sin(double);
LIBRARY double cos(double);
LIBRARY double tan(double);
LIBRARY double asin(double);
LIBRARY double acos(double);
LIBRARY double atan(double);
LIBRARY double sinh(double);
LIBRARY double cosh(double);
LIBRARY double tanh(double);
LIBRARY double asinh(double);
LIBRARY double acosh(double);
LIBRARY double atanh(double);
LIBRARY double erf(double);
LIBRARY double erfc(double);
LIBRARY double cbrt(double);
LIBRARY double pow(double, double);
LIBRARY double hypot(double, double);

/* numbers as bits */

INLINE float from_bits(int i) { union { int i; float f; } u = {i}; return u.f; }
INLINE int to_bits(float f) { union { float f; int i; } u = {.f = f}; return u.i; }
INLINE float power_of_2(int n) { return from_bits((n + 127) << 23); }

/* 1/a; on GPUs within a unit in the last place, and 0 beyond 2^126 */
INLINE float nearly_inverse(float a) { return 1.0f / a; }

/* the same of normal numbers up to 2^126, within 2^-17: an inverse exponent, and Newton's method */
INLINE float roughly_inverse(float a) {
    float inverse = from_bits((int)(0x7ef311c7u - (unsigned)to_bits(a)));
    inverse = fma32(fma32(-inverse, a, 1.0f), inverse, inverse);
    return fma32(fma32(-inverse, a, 1.0f), inverse, inverse);
}

/* other than 0 where a result is infinite or NaN */
INLINE int not_finite(float a) { return to_bits(a * 0.0f) & 0x7fffffff; }

/* pieces */

INLINE float abs_f32(float a) { return __builtin_fabsf(a); }
INLINE double abs_f64(double a) { return __builtin_fabs(a); }
INLINE float sqrt_f32(float a) { return __builtin_sqrtf(a); }
INLINE float sqrt_pair_f32(float a, float low, float *rest) {
    float root = sqrt_f32(a);
    *rest = (a > 0) & (a <= 3.40282347e38f) ? (fma32(-root, root, a) + low) / (2.0f * root) : 0.0f;
    return root;
}
INLINE double sqrt_f64(double a) { return __builtin_sqrt(a); }
INLINE float relu_f32(float a) { return a <= 0 ? 0.0f : a; }
INLINE double relu_f64(double a) { return a <= 0 ? 0.0 : a; }
INLINE float sign_f32(float a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a; }
INLINE double sign_f64(double a) { return a > 0 ? 1.0 : a < 0 ? -1.0 : a; }
/* NaN where one is; a where both are equal, zeros of two signs, too */
INLINE float max_f32(float a, float b) { return (a >= b) | (a != a) ? a : b; }
INLINE double max_f64(double a, double b) { return (a >= b) | (a != a) ? a : b; }
INLINE float min_f32(float a, float b) { return (a <= b) | (a != a) ? a : b; }
INLINE double min_f64(double a, double b) { return (a <= b) | (a != a) ? a : b; }

/* a bound that is a number, on a value that may be NaN */
INLINE float at_most_f32(float a, float bound) { return a > bound ? bound : a; }
INLINE double at_most_f64(double a, double bound) { return a > bound ? bound : a; }
INLINE float at_least_f32(float a, float bound) { return a < bound ? bound : a; }
INLINE double at_least_f64(double a, double bound) { return a < bound ? bound : a; }

/* a sum, and what its terms lack: NaN where one of them is infinite */
#ifdef FAST
#define corrected(sum, low) (sum)
#else
INLINE float corrected(float sum, float low) {
    float value = sum + low;
    return value == value ? value : sum;
}
#endif

/* rest/b, what a quotient lacks, within 2^-17; nothing where that is infinite or NaN */
INLINE float less_by(float rest, float b) {
    float less = rest * roughly_inverse(b);
    return abs_f32(less) <= 3.40282347e38f ? less : 0.0f;
}

/* a sum, and what it lacks, of a number and one that is smaller or exact beside it */
INLINE float sum_of(float large, float small, float *rest) {
    float sum = large + small;
    *rest = small - (sum - large);
    return sum;
}

/* exponentials: exp(a + low) = 2^n * (1 + r + rest), |r| <= ln(2)/2, 2^-28.2 */

INLINE float exp_reduced(float a, float low, int *n, float *rest) {
    const float shift = 12582912.0f; /* 1.5 * 2^23 rounds to whole numbers */
    float k = fma32(a, 1.44269504f, shift);
    *n = to_bits(k) - to_bits(shift);
    k -= shift;
    float r = fma32(k, -1.42860677e-6f, fma32(k, -0.693145752f, a) + low);
    float q = 0.0013940561329945922f;
    q = fma32(q, r, 0.00836883019655943f);
    q = fma32(q, r, 0.04166640341281891f);
    q = fma32(q, r, 0.1666651964187622f);
    *rest = fma32(q, r, 0.5f) * (r * r);
    return r;
}

/* where exp(a) is below the normal numbers: subnormal (below exp(least)), or so small that
 * a*a*exp(a), too, is 0 */
INLINE int exp_ends(float a, float least, int *lost) {
#ifdef FAST /* what is smaller than the normal numbers is 0 */
    return a < least;
#else
    *lost |= (a < least) & (a >= -120.0f);
    return a < -120.0f;
#endif
}

INLINE float exp_wide_f32(float a, float low, int *lost) {
    int n;
    float rest, r = exp_reduced(a, low, &n, &rest);
    float sum = 1.0f + r;
    sum += rest + (r - (sum - 1.0f));
    *lost |= !(a <= 87.0f);
    return exp_ends(a, -87.0f, lost) ? 0.0f : from_bits(to_bits(sum) + (n << 23));
}
INLINE float exp_f32(float a, int *lost) { return exp_wide_f32(a, -0.0f, lost); }
INLINE double exp_f64(double a) { return exp(a); }

/* exp(a + low) as a sum, for a <= 87; a < least asks for float64 */
INLINE float exp_and_rest(float a, float low, float least, float *rest, int *lost) {
    int n, ends = exp_ends(a, least, lost);
    float r = exp_reduced(a, low, &n, rest), whole = 1.0f + r, scale = power_of_2(n);
    *rest += r - (whole - 1.0f);
    float sum = sum_of(whole, *rest, rest);
    *rest = ends ? 0.0f : *rest * scale;
    return ends ? 0.0f : sum * scale;
}
INLINE float exp_pair_f32(float a, float low, float *rest, int *lost) {
    *lost |= !(a <= 87.0f);
    return exp_and_rest(a, low, -87.0f, rest, lost);
}

/* (a + a_low) / (b + b_low), given about 1/b */
INLINE float quotient_by(float inverse, float a, float a_low, float b, float b_low, float *rest) {
    float value = a * inverse, less = fma32(-value, b, a) + fma32(-value, b_low, a_low);
    return sum_of(value, less * inverse, rest);
}
INLINE float quotient(float a, float a_low, float b, float b_low, float *rest) {
    return quotient_by(nearly_inverse(b), a, a_low, b, b_low, rest);
}

/* the same of any numbers, 0 and infinities, too; lost where the inverse of b overflows */
INLINE float divided(float a, float a_low, float b, float b_low, float *rest, int *lost) {
    float inverse = 1.0f / b, value = quotient_by(inverse, a, a_low, b, b_low, rest);
    int is_known = (value == value) & (*rest == *rest);
    *lost |= (b != 0) & (abs_f32(inverse) > 3.40282347e38f);
    *rest = is_known ? *rest : 0.0f;
    return is_known ? value : a * inverse;
}

INLINE float expm1_pair_f32(float a, float low, float *rest, int *lost) {
    int n;
    float r = exp_reduced(a, low, &n, rest), s = power_of_2(n);
    float whole = s - 1.0f, sum = fma32(r, s, whole);
    sum = sum_of(sum, fma32(*rest, s, fma32(r, s, whole - sum)), rest);
    *lost |= !(a <= 87.0f);
    *rest = a < -20.0f ? 0.0f : *rest;
    return a < -20.0f ? -1.0f : sum;
}
INLINE float expm1_wide_f32(float a, float low, int *lost) {
    float rest;
    return expm1_pair_f32(a, low, &rest, lost);
}
INLINE float expm1_f32(float a, int *lost) { return expm1_wide_f32(a, -0.0f, lost); }
INLINE double expm1_f64(double a) { return expm1(a); }

/* logarithms: log(1 + f) on [-1/3, 1/3], 2^-30 */

INLINE float log_reduced(float f, float low, float exponent, float *rest) { /* of 1 + f + low */
    float q = 0.1195845976471901f;
    q = fma32(q, f, -0.12830109894275665f);
    q = fma32(q, f, 0.1076955571770668f);
    q = fma32(q, f, -0.12199418246746063f);
    q = fma32(q, f, 0.1430271714925766f);
    q = fma32(q, f, -0.16679295897483826f);
    q = fma32(q, f, 0.19999681413173676f);
    q = fma32(q, f, -0.2499982714653015f);
    q = fma32(q, f, 0.3333333432674408f);
    float s = f * f;
    float small = fma32(q * s, f, fma32(exponent, 1.42860677e-6f, -0.5f * s));
    small += fma32(-f, low, low); /* low/(1 + f), roughly */
    float of_power = exponent * 0.693145752f; /* exact */
    float sum = sum_of(f, small, &small), whole = of_power + sum;
    return sum_of(whole, small + (sum - (whole - of_power)), rest);
}

INLINE float log_pair_f32(float a, float low, float *rest) {
    int tiny = a < 1.17549435e-38f;
    int bits = to_bits(tiny ? a * 8388608.0f : a);
    int n = (bits - 0x3f2aaaab) >> 23;
    float f = from_bits(bits - (n << 23)) - 1.0f;
    f = sum_of(f, tiny ? 0.0f : low * power_of_2(n > 126 ? -126 : -n), &low);
    float value = log_reduced(f, low, (float)(tiny ? n - 23 : n), rest);
    value = a > 3.40282347e38f ? a : value;
    value = a == 0 ? -INFINITE : value;
    return a >= 0 ? value : UNDEFINED;
}
INLINE float log_f32(float a) {
    float rest;
    return log_pair_f32(a, 0.0f, &rest);
}
INLINE double log_f64(double a) { return log(a); }

INLINE float log1p_pair_f32(float a, float low, float *rest) {
    float u = 1.0f + a;
    float rounded = a - (u - 1.0f) + low; /* 1 + a + low = u + rounded */
    int bits = to_bits(u);
    int n = (bits - 0x3f2aaaab) >> 23;
    float f = from_bits(bits - (n << 23)) - 1.0f;
    f = sum_of(f, rounded * power_of_2(n > 126 ? -126 : -n), &low);
    float value = log_reduced(f, low, (float)n, rest);
    value = a > 3.40282347e38f ? a : value;
    value = a == -1 ? -INFINITE : value;
    return a >= -1 ? value : UNDEFINED;
}
INLINE float log1p_f32(float a) {
    float rest;
    return log1p_pair_f32(a, -0.0f, &rest);
}
INLINE double log1p_f64(double a) { return log1p(a); }

INLINE float log1p_of_fraction(float t, float t_low, float *rest) { /* for t in [0, 1] */
    float u = 1.0f + t;
    float rounded = t - (u - 1.0f) + t_low;
    int above = u > 1.33333333f;
    float f = above ? 0.5f * u - 1.0f : u - 1.0f;
    f = sum_of(f, above ? 0.5f * rounded : rounded, &rounded);
    return log_reduced(f, rounded, above ? 1.0f : 0.0f, rest);
}

/* sigmoids */

INLINE float sigmoid_at(float a, float low, float *rest, int *lost) { /* low: what -|a| lacks */
#ifdef FAST
    float t = exp_f32(-abs_f32(a), lost);
    *rest = 0.0f;
    return (a > 0 ? 1.0f : t) / (1.0f + t);
#else
    float t_low, t = exp_and_rest(-abs_f32(a), low, -87.0f, &t_low, lost);
    float below = 1.0f + t, below_low = t - (below - 1.0f) + t_low;
    return quotient(a > 0 ? 1.0f : t, a > 0 ? 0.0f : t_low, below, below_low, rest);
#endif
}
INLINE float sigmoid_pair_f32(float a, float low, float *rest, int *lost) {
    return sigmoid_at(a, a > 0 ? -low : low, rest, lost);
}
INLINE float sigmoid_wide_f32(float a, float low, int *lost) {
    float rest;
    return sigmoid_pair_f32(a, low, &rest, lost);
}
INLINE float sigmoid_f32(float a, int *lost) {
    float rest;
    return sigmoid_at(a, -0.0f, &rest, lost);
}
INLINE double sigmoid_f64(double a) {
    double t = exp(-__builtin_fabs(a));
    return (a > 0 ? 1.0 : t) / (1.0 + t);
}

INLINE float softplus_at(float a, float low, float *rest, int *lost) { /* low: what -|a| lacks */
    float t_low, t = exp_and_rest(-abs_f32(a), low, -87.0f, &t_low, lost);
    float value = log1p_of_fraction(t, t_low, rest), linear = a > 0 ? a : 0.0f;
    float sum = linear + value, part = sum - linear;
    *rest += linear - (sum - part) + (value - part) - (a > 0 ? low : 0.0f);
    return sum;
}
INLINE float softplus_pair_f32(float a, float low, float *rest, int *lost) {
    return softplus_at(a, a > 0 ? -low : low, rest, lost);
}
INLINE float softplus_wide_f32(float a, float low, int *lost) {
    float rest;
    return softplus_pair_f32(a, low, &rest, lost);
}
INLINE float softplus_f32(float a, int *lost) { return softplus_wide_f32(a, -0.0f, lost); }
INLINE double softplus_f64(double a) {
    return relu_f64(a) + log1p(exp(-__builtin_fabs(a)));
}

/* functions of a softplus, with t = exp(-|a|): (1 + exp(a))^2 is (1 + t)^2/t^2 or (1 + t)^2 */

INLINE float tanh_of_softplus_pair_f32(float a, float low, float *rest, int *lost) {
    low = a > 0 ? -low : low;
    float t_low, t = exp_and_rest(-abs_f32(a), low, -87.0f, &t_low, lost);
    float above = a > 0 ? fma32(2.0f, t, 1.0f) : fma32(t, t, 2.0f * t);
    float above_low = a > 0 ? 2.0f * t - (above - 1.0f) : fma32(t, t, 2.0f * t - above);
    float slope = a > 0 ? 2.0f : fma32(2.0f, t, 2.0f);
    above_low = fma32(slope, t_low, above_low);
    float more = a > 0 ? 2.0f * t * t : 2.0f, below = above + more, larger = below - above;
    float below_low = above - (below - larger) + (more - larger) + above_low;
    below_low = a > 0 ? fma32(4.0f * t, t_low, below_low) + fma32(2.0f * t, t, -more) : below_low;
    return quotient(above, above_low, below, below_low, rest);
}
INLINE float tanh_of_softplus_f32(float a, int *lost) {
    float rest;
    return tanh_of_softplus_pair_f32(a, -0.0f, &rest, lost);
}
INLINE double tanh_of_softplus_f64(double a) {
    double t = exp(-__builtin_fabs(a));
    double above = a > 0 ? 2.0 * t + 1.0 : t * (t + 2.0);
    return above / (above + (a > 0 ? 2.0 * t * t : 2.0));
}
/* of 2 or -2 times it */
INLINE float sigmoid_of_softplus_pair_f32(float a, float factor, float low, float *rest, int *lost) {
    low = a > 0 ? -low : low;
    float t_low, t = exp_and_rest(-abs_f32(a), low, -87.0f, &t_low, lost);
    float root = 1.0f + t, root_low = t - (root - 1.0f) + t_low;
    float square = root * root, square_low = fma32(root, root, -square) + 2.0f * root * root_low;
    float more = a > 0 ? t * t : 1.0f, more_low = fma32(t, t, -more) + 2.0f * t * t_low;
    more_low = a > 0 ? more_low : 0.0f;
    float below = square + more, below_low = more - (below - square) + square_low + more_low;
    float above = factor > 0 ? square : more, above_low = factor > 0 ? square_low : more_low;
    return quotient(above, above_low, below, below_low, rest);
}
INLINE float sigmoid_of_softplus_f32(float a, float factor, int *lost) {
#ifdef FAST
    float t = exp_f32(-abs_f32(a), lost);
    float square = (1.0f + t) * (1.0f + t), more = a > 0 ? t * t : 1.0f;
    return (factor > 0 ? square : more) / (square + more);
#else
    float rest;
    return sigmoid_of_softplus_pair_f32(a, factor, -0.0f, &rest, lost);
#endif
}
INLINE double sigmoid_of_softplus_f64(double a, double factor) {
    double t = exp(-__builtin_fabs(a));
    double square = (1.0 + t) * (1.0 + t), rest = a > 0 ? t * t : 1.0;
    return (factor > 0 ? square : rest) / (square + rest);
}

/* hyperbolic functions; tanh on [0, 0.625], 2^-27.8; sinh on [0, 1], 2^-31.6 */

INLINE float tanh_near(float a, float *rest) {
    float s = a * a, q = -0.0057154991663992405f;
    q = fma32(q, s, 0.020649103447794914f);
    q = fma32(q, s, -0.05374300479888916f);
    q = fma32(q, s, 0.133314847946167f);
    q = fma32(q, s, -0.3333328366279602f);
    float value = fma32(q * s, a, a);
    *rest = fma32(q * s, a, a - value);
    return value;
}
INLINE float tanh_pair_f32(float a, float low, float *rest) {
    int lost = 0; /* never: the argument is bounded */
    float size = abs_f32(a), less, near = tanh_near(a, &less);
    low = size < 43.0f ? low : 0.0f; /* of an infinity it is NaN */
    near = sum_of(near, fma32(fma32(-near, near, 1.0f), low, less), &less);
    float twice = -2.0f * at_most_f32(size, 43.0f), twice_low = a > 0 ? -2.0f * low : 2.0f * low;
    float t_low, t = exp_and_rest(twice, twice_low, -87.0f, &t_low, &lost);
    float above = 1.0f - t, above_low = (1.0f - above) - t - t_low;
    float below = 1.0f + t, below_low = t - (below - 1.0f) + t_low;
    float far_low, far = quotient(above, above_low, below, below_low, &far_low);
    int is_far = size >= 0.625f;
    *rest = is_far ? (a > 0 ? far_low : -far_low) : less;
    return is_far ? __builtin_copysignf(far, a) : near; /* NaN, too */
}
INLINE float tanh_f32(float a) {
    float rest;
#ifdef FAST
    int lost = 0;
    float size = abs_f32(a), near = tanh_near(a, &rest);
    float far = 1.0f - 2.0f / (exp_f32(2.0f * at_most_f32(size, 10.0f), &lost) + 1.0f);
    return size >= 0.625f ? __builtin_copysignf(far, a) : near;
#else
    return tanh_pair_f32(a, -0.0f, &rest);
#endif
}
INLINE double tanh_f64(double a) { return tanh(a); }

INLINE float sinh_near(float a) { /* what is above a */
    float s = a * a, q = 2.7822131869470468e-06f;
    q = fma32(q, s, 0.00019842895562760532f);
    q = fma32(q, s, 0.00833331048488617f);
    q = fma32(q, s, 0.1666666716337204f);
    return q * s * a;
}
INLINE float sinh_wide_f32(float a, float low, int *lost) {
    float half = 0.5f * exp_wide_f32(abs_f32(a), a > 0 ? low : -low, lost);
    float far = half - 0.25f / half;
    return abs_f32(a) < 1.0f ? a + sinh_near(a) + low : __builtin_copysignf(far, a);
}
/* half of exp(a + low) and of its inverse, or less that; a > 0 */
INLINE float halves(float a, float low, float sign, float *rest, int *lost) {
    float half_low, half = 0.5f * exp_pair_f32(a, low, &half_low, lost);
    half_low *= 0.5f;
    float other = 0.25f / half;
    float other_low = 4.0f * other * (fma32(-other, half, 0.25f) - other * half_low);
    float less, sum = sum_of(half, sign * other, &less);
    return sum_of(sum, less + fma32(sign, other_low, half_low), rest);
}
INLINE float sinh_pair_f32(float a, float low, float *rest, int *lost) {
    float far_low, far = halves(abs_f32(a), a > 0 ? low : -low, -1.0f, &far_low, lost);
    float near_low = fma32(0.5f * low * a, a, low), near = sum_of(a, sinh_near(a) + near_low, &near_low);
    int is_near = abs_f32(a) < 1.0f;
    *rest = is_near ? near_low : a > 0 ? far_low : -far_low;
    return is_near ? near : __builtin_copysignf(far, a);
}
INLINE float sinh_f32(float a, int *lost) { return sinh_wide_f32(a, 0.0f, lost); }
INLINE double sinh_f64(double a) { return sinh(a); }

INLINE float cosh_wide_f32(float a, float low, int *lost) {
    float half = 0.5f * exp_wide_f32(abs_f32(a), a > 0 ? low : -low, lost);
    return half + 0.25f / half;
}
INLINE float cosh_pair_f32(float a, float low, float *rest, int *lost) {
    return halves(abs_f32(a), a > 0 ? low : -low, 1.0f, rest, lost);
}
INLINE float cosh_f32(float a, int *lost) { return cosh_wide_f32(a, 0.0f, lost); }
INLINE double cosh_f64(double a) { return cosh(a); }

INLINE float asinh_f32(float a, int *lost) {
    float size = abs_f32(a), square = size * size;
    *lost |= !(size <= 1e18f); /* its square is infinite */
    float above = size + square / (1.0f + sqrt_f32(1.0f + square));
    return __builtin_copysignf(log1p_f32(above), a);
}
INLINE double asinh_f64(double a) { return asinh(a); }
INLINE float acosh_f32(float a) { return (float)acosh((double)a); }
INLINE double acosh_f64(double a) { return acosh(a); }
INLINE float atanh_f32(float a) { return (float)atanh((double)a); }
INLINE double atanh_f64(double a) { return atanh(a); }

/* trigonometric functions: the argument less its multiple of pi/2, in three parts;
 * sin 2^-28, cos 2^-33 on |r| <= pi/4; atan on [0, 1], 2^-28.5 */

INLINE float quadrant(float a, float low, int *n, float *rest, int *lost) {
    const float shift = 12582912.0f;
    *lost |= !(abs_f32(a) <= 30000.0f);
    float k = fma32(a, 0.636619772f, shift);
    *n = to_bits(k) - to_bits(shift);
    k -= shift;
    float first = fma32(k, -1.57079601f, a), r = fma32(k, -3.13916473e-07f, first);
    low = fma32(k, -3.13916473e-07f, first - r) + fma32(k, -5.39030253e-15f, low);
    return sum_of(r, low, rest);
}
INLINE float sin_reduced(float r, float low, float *rest) {
    float s = r * r, q = -0.0001951840822584927f;
    q = fma32(q, s, 0.008332190103828907f);
    q = fma32(q, s, -0.16666655242443085f);
    return sum_of(r, fma32(q * s, r, low), rest);
}
INLINE float cos_reduced(float r, float low, float *rest) {
    float s = r * r, q = 2.4432327336398885e-05f;
    q = fma32(q, s, -0.0013887309469282627f);
    q = fma32(q, s, 0.04166664555668831f);
    float whole = fma32(-0.5f, s, 1.0f), less = fma32(-0.5f, s, 1.0f - whole) + low;
    return sum_of(whole, fma32(q, s * s, less), rest);
}

/* sin(a + low) for turn = 0, cos(a + low) for turn = 1 */
INLINE float sine(float a, float low, int turn, int *lost) {
    int n;
    float rest, r = quadrant(a, low, &n, &rest, lost);
    float value = (n + turn) & 1 ? cos_reduced(r, -0.0f, &rest) : sin_reduced(r, -0.0f, &rest);
    return (n + turn) & 2 ? -value : value;
}
INLINE float sine_pair(float a, float low, int turn, float *rest, int *lost) {
    int n;
    float r = quadrant(a, low, &n, &low, lost), half = 0.5f * r, square = half * r;
    float sin_low = fma32(-square, low, low), cos_low = square - fma32(half, r, r * low);
    float sine = sin_reduced(r, sin_low, &sin_low), cosine = cos_reduced(r, cos_low, &cos_low);
    float value = (n + turn) & 1 ? cosine : sine, value_low = (n + turn) & 1 ? cos_low : sin_low;
    *rest = (n + turn) & 2 ? -value_low : value_low;
    return (n + turn) & 2 ? -value : value;
}
INLINE float sin_pair_f32(float a, float low, float *rest, int *lost) {
    return sine_pair(a, low, 0, rest, lost);
}
INLINE float cos_pair_f32(float a, float low, float *rest, int *lost) {
    return sine_pair(a, low, 1, rest, lost);
}
INLINE float sin_wide_f32(float a, float low, int *lost) { return sine(a, low, 0, lost); }
INLINE float cos_wide_f32(float a, float low, int *lost) { return sine(a, low, 1, lost); }
INLINE float tan_wide_f32(float a, float low, int *lost) {
    int n;
    float rest, r = quadrant(a, low, &n, &rest, lost);
    float sine = sin_reduced(r, -0.0f, &rest), cosine = cos_reduced(r, -0.0f, &rest);
    return (n & 1 ? -cosine : sine) / (n & 1 ? sine : cosine);
}
INLINE float sin_f32(float a, int *lost) { return sin_wide_f32(a, -0.0f, lost); }
INLINE float cos_f32(float a, int *lost) { return cos_wide_f32(a, -0.0f, lost); }
INLINE float tan_f32(float a, int *lost) { return tan_wide_f32(a, -0.0f, lost); }
INLINE double sin_f64(double a) { return sin(a); }
INLINE double cos_f64(double a) { return cos(a); }
INLINE double tan_f64(double a) { return tan(a); }

INLINE float sinc_f32(float a, int *lost) {
    float rest, value = sin_pair_f32(a, 0.0f, &rest, lost) / a;
    return a == 0 ? 1.0f : value;
}
INLINE double sinc_f64(double a) {
    double value = sin(a) / a;
    value = a == 0 ? 1.0 : value;
    return __builtin_fabs(a) > 1.7976931348623157e308 ? 0.0 : value;
}

/* spherical Bessel function: below 1.5 its series (in float32 a polynomial, 2^-30), else
 * (sin(a)/a - cos(a))/a */
INLINE double j1_f64(double a) {
    double s = a * a;
    double q = 1.0 - s * (1.0 / 550.0);
    q = 1.0 - s * (1.0 / 460.0) * q;
    q = 1.0 - s * (1.0 / 378.0) * q;
    q = 1.0 - s * (1.0 / 304.0) * q;
    q = 1.0 - s * (1.0 / 238.0) * q;
    q = 1.0 - s * (1.0 / 180.0) * q;
    q = 1.0 - s * (1.0 / 130.0) * q;
    q = 1.0 - s * (1.0 / 88.0) * q;
    q = 1.0 - s * (1.0 / 54.0) * q;
    q = 1.0 - s * (1.0 / 28.0) * q;
    q = 1.0 - s * (1.0 / 10.0) * q;
    double near = a / 3.0 * q;
    double far = (sin(a) / a - cos(a)) / a;
    far = __builtin_fabs(a) > 1.7976931348623157e308 ? 0.0 : far;
    return __builtin_fabs(a) < 1.5 ? near : far;
}
INLINE float j1_f32(float a, int *lost) {
    float s = a * a, third = a / 3.0f;
    float q = 7.201557821206963e-07f;
    q = fma32(q, s, -6.60777583685135e-05f);
    q = fma32(q, s, 0.0035713833196085954f);
    q = fma32(q, s, -0.0999999892607423f);
    float near = fma32(third * q, s, third);
    float difference = sin_f32(a, lost) / a - cos_f32(a, lost);
#ifdef FAST
    int near_root = 0;
#else
    int near_root = abs_f32(a) > 1.5f && abs_f32(difference) < 0.25f;
#endif
    *lost |= near_root;
    return abs_f32(a) < 1.5f ? near : difference / a;
}

INLINE float atan_of_fraction(float t, float *rest) {
    float s = t * t, q = -0.0017828206764534116f;
    q = fma32(q, s, 0.010868685320019722f);
    q = fma32(q, s, -0.031096985563635826f);
    q = fma32(q, s, 0.05788138881325722f);
    q = fma32(q, s, -0.08399306237697601f);
    q = fma32(q, s, 0.10950880497694016f);
    q = fma32(q, s, -0.14264015853405f);
    q = fma32(q, s, 0.1999852955341339f);
    q = fma32(q, s, -0.33333298563957214f);
    float value = fma32(q * s, t, t);
    *rest = fma32(q * s, t, t - value);
    return value;
}
INLINE float atan_f32(float a) {
    int outside = abs_f32(a) > 1.0f;
    float rest, p = atan_of_fraction(outside ? -1.0f / abs_f32(a) : abs_f32(a), &rest);
    return __builtin_copysignf(outside ? 1.57079637f + (p - 4.37113883e-8f) : p, a);
}
INLINE float atan_pair_f32(float a, float low, float *rest) {
    float size = abs_f32(a), size_low = a > 0 ? low : -low;
    int outside = size > 1.0f;
    float t = outside ? -nearly_inverse(size) : size, s = t * t;
    float t_low = outside ? fma32(s, size_low, t * fma32(t, size, 1.0f)) : size_low;
    float slope = fma32(fma32(0.45f, s, -0.95f), s, 1.0f); /* 1/(1 + s), roughly */
    float less, p = atan_of_fraction(t, &less);
    less = size < 16777216.0f ? fma32(slope, t_low, less) : less;
    less += outside ? -4.37113883e-8f : 0.0f;
    float sum = sum_of(outside ? 1.57079637f : 0.0f, p, &p);
    sum = sum_of(sum, p + less, &less);
    *rest = a > 0 ? less : -less;
    return __builtin_copysignf(sum, a);
}
INLINE double atan_f64(double a) { return atan(a); }
INLINE float asin_f32(float a) { return (float)asin((double)a); }
INLINE double asin_f64(double a) { return asin(a); }
INLINE float acos_f32(float a) { return (float)acos((double)a); }
INLINE double acos_f64(double a) { return acos(a); }

/* error function on [0, 1], 2^-33; (1 + 2a)*exp(a*a)*erfc(a) in (a - 3)/(a + 3), 2^-28.7 */

INLINE float erf_near(float a, float *rest) {
    float s = a * a;
    float q = -8.90696082933573e-06f;
    q = fma32(q, s, 0.00011005928536178544f);
    q = fma32(q, s, -0.0008449334418401122f);
    q = fma32(q, s, 0.0052187503315508366f);
    q = fma32(q, s, -0.0268646739423275f);
    q = fma32(q, s, 0.11283770948648453f);
    q = fma32(q, s, -0.37612637877464294f);
    float less = fma32(q, s, -5.86729e-08f) * a, value = fma32(1.12837923f, a, less);
    *rest = fma32(1.12837923f, a, -value) + less;
    return value;
}
INLINE float erfc_positive(float a, float low, float *rest, int *lost) {
    low = a < 30.0f ? low : 0.0f; /* of an infinity it is NaN */
    a = at_most_f32(a, 30.0f);    /* erfc is 0 there */
    float u = (a - 3.0f) / (a + 3.0f);
    float q = -0.00026988962781615555f;
    q = fma32(q, u, -0.0007789218798279762f);
    q = fma32(q, u, 0.0020053985062986612f);
    q = fma32(q, u, 0.0025706409942358732f);
    q = fma32(q, u, -0.02379876933991909f);
    q = fma32(q, u, 0.06829438358545303f);
    q = fma32(q, u, -0.11927083879709244f);
    q = fma32(q, u, 0.12964659929275513f);
    q = fma32(q, u, -0.047562405467033386f);
    q = fma32(q, u, -0.13562114536762238f);
    q = fma32(q, u, 5.12124929130664e-08f);
    float above = q + 1.2530080080032349f;
    float square = a * a;
    float square_low = fma32(a, a, -square) + 2.0f * a * low;
    float below = fma32(2.0f, a, 1.0f);
#ifdef FAST
    *rest = 0.0f;
    return exp_wide_f32(-square, -square_low, lost) * (above / below);
#else
    float above_low = q - (above - 1.2530080080032349f);
    float below_low = 2.0f * a - (below - 1.0f) + 2.0f * low;
    float inverse = nearly_inverse(below), ratio = above * inverse;
    float ratio_low = fma32(-ratio, below, above) + fma32(-ratio, below_low, above_low);
    float t_low, t = exp_and_rest(-square, -square_low, -83.0f, &t_low, lost); /* ratio > exp(-4) */
    float less = fma32(t, ratio_low * inverse, t_low * ratio), value = fma32(t, ratio, less);
    *rest = fma32(t, ratio, -value) + less;
    return value;
#endif
}
INLINE float erfc_pair_f32(float a, float low, float *rest, int *lost) {
    float far_low, far = erfc_positive(abs_f32(a), a > 0 ? low : -low, &far_low, lost);
    float near_low, near = erf_near(a, &near_low);
    near_low = -fma32(low, 1.12837923f, near_low);
    far_low = a < 0 ? -far_low : far_low;
    int is_near = abs_f32(a) < 0.35f; /* beyond, 1 - erf(a) cancels */
    float part = is_near ? -near : a < 0 ? -far : far, part_low = is_near ? near_low : far_low;
    float whole = is_near ? 1.0f : a < 0 ? 2.0f : 0.0f, sum = sum_of(whole, part, &part);
    return sum_of(sum, part + part_low, rest);
}
INLINE float erfc_wide_f32(float a, float low, int *lost) {
    float rest, far = erfc_positive(abs_f32(a), a > 0 ? low : -low, &rest, lost);
    far = a < 0 ? 2.0f - far : far;
    float near = 1.0f - fma32(low, 1.12837923f, erf_near(a, &rest));
    return abs_f32(a) < 0.35f ? near : far;
}
INLINE float erfc_f32(float a, int *lost) { return erfc_wide_f32(a, 0.0f, lost); }
INLINE double erfc_f64(double a) { return erfc(a); }

INLINE float erf_pair_f32(float a, float low, float *rest, int *lost) {
    float far_low, far = -erfc_positive(abs_f32(a), a > 0 ? low : -low, &far_low, lost);
    float near_low, near = erf_near(a, &near_low), s = a * a;
    float slope = 1.12837923f * fma32(fma32(0.32f, s, -0.95f), s, 1.0f); /* roughly */
    near = sum_of(near, fma32(slope, low, near_low), &near_low);
    float sum = sum_of(1.0f, far, &far);
    far = sum_of(sum, far - far_low, &far_low);
    int is_near = abs_f32(a) < 1.0f;
    *rest = is_near ? near_low : a > 0 ? far_low : -far_low;
    return is_near ? near : __builtin_copysignf(far, a);
}
INLINE float erf_f32(float a, int *lost) {
    float rest, far = 1.0f - erfc_positive(abs_f32(a), 0.0f, &rest, lost);
    return abs_f32(a) < 1.0f ? erf_near(a, &rest) : __builtin_copysignf(far, a);
}
INLINE double erf_f64(double a) { return erf(a); }

/* powers and roots */

INLINE float cbrt_f32(float a) { return (float)cbrt((double)a); }
INLINE double cbrt_f64(double a) { return cbrt(a); }
INLINE float pow_pair_f32(float a, float b, float low, float *rest, int *lost) {
    low = low == low ? low : 0.0f;
    double value = pow((double)a + low, (double)b), size = __builtin_fabs(value);
    *lost |= (size > 3.4028234663852886e38) & (size <= 1.7976931348623157e308);
#ifdef FAST
#else
    *lost |= (size < 1.1754943508222875e-38) & (size > 0);
#endif
    *rest = (float)(value - (float)value);
    return (float)value;
}
INLINE float pow_f32(float a, float b, int *lost) {
    float rest;
    return pow_pair_f32(a, b, -0.0f, &rest, lost);
}
INLINE double pow_f64(double a, double b) { return pow(a, b); }
INLINE float hypot_f32(float a, float b) { return (float)__builtin_sqrt((double)a * a + (double)b * b); }
INLINE double hypot_f64(double a, double b) { return hypot(a, b); }
