"""The generator of `perdure.api`, run by the build hook and never installed.

`sources` collects descriptors and licences from wheels of the build environment, `names` maps proto names to
Python names, `stubs` writes the type stubs, `package` lays everything out as files. Nothing of this is
imported at run time.
"""
