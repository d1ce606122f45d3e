/* Finds results in float that have overflowed on the way, and computes them again in double. */

INLINE int is_finite_float(float v)
{
    return (bits_of_float(v) & 0x7f800000u) != 0x7f800000u;
}

static int all_finite_float(const float *v, Py_ssize_t n)
{
    uint32_t found = 0;
    for (Py_ssize_t i = 0; i < n; i++) /* where all bits of the exponent are set, one more goes to the sign's */
        found |= (bits_of_float(v[i]) & 0x7fffffffu) + 0x00800000u;
    return !(found >> 31);
}

static int all_finite_double(const double *v, Py_ssize_t n)
{
    uint64_t found = 0;
    for (Py_ssize_t i = 0; i < n; i++)
        found |= (bits_of_double(v[i]) & 0x7fffffffffffffffu) + 0x0010000000000000u;
    return !(found >> 63);
}

/* Of both, what was finite in float stays, so that no element depends on its neighbours. */
static void replace_float(const double *RESTRICT wide, Py_ssize_t n, float *RESTRICT v)
{
    for (Py_ssize_t i = 0; i < n; i++)
        v[i] = is_finite_float(v[i]) ? v[i] : (float)wide[i];
}

static void replaced_double(const float *RESTRICT v, Py_ssize_t n, double *RESTRICT wide)
{
    for (Py_ssize_t i = 0; i < n; i++)
        wide[i] = is_finite_float(v[i]) ? (double)v[i] : wide[i];
}
