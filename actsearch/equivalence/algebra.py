def proves_equal(a,b): return False
