# SPDX-License-Identifier: BSD-3-Clause
"""CPython 3.10 and newer: what the package uses of Python, 3.10 has already. Whoever uses more looks up since when it is
there, and adds it here."""
import ast
import pathlib
import re
import sys

import pytest
from conftest import ROOT

import torchkeep

SOURCES = sorted(pathlib.Path(torchkeep.__file__).parent.glob("*.py*"))

STANDARD = set("""
    __future__.annotations argparse.Namespace collections.Counter collections.OrderedDict collections.abc
    collections.abc.Callable collections.abc.Iterable collections.abc.Iterator collections.abc.Mapping
    collections.abc.MutableMapping collections.abc.Sequence collections.defaultdict collections.deque
    concurrent.futures contextlib.contextmanager copy.copy copy.deepcopy dataclasses.dataclass datetime.date
    datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal enum.Enum enum.Flag
    fractions.Fraction functools.wraps hashlib.sha256 html.escape inspect.isfunction inspect.signature
    inspect.unwrap io.BytesIO io.RawIOBase io.TextIOBase itertools.chain itertools.islice json.dumps json.loads
    logging.ERROR logging.INFO logging.WARNING logging.getLogger os.O_RDONLY os.PathLike os.SEEK_CUR os.SEEK_END
    os.close os.environ os.environ.get os.execv os.fsdecode os.fspath os.fsync os.getpid os.kill os.makedirs os.open
    os.path os.path.abspath os.path.basename os.path.dirname os.path.exists os.path.join os.remove pathlib.Path
    pathlib.PosixPath pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath pathlib.WindowsPath
    pickle.UnpicklingError platform.python_version random.Random random.SystemRandom random.getstate random.seed
    random.setstate re.fullmatch signal.SIGINT signal.SIGTERM signal.SIGUSR1 signal.SIG_DFL signal.SIG_IGN
    signal.default_int_handler signal.getsignal signal.signal socket.gethostname struct.pack sys._getframe sys.argv
    sys.exit sys.modules sys.stderr sysconfig.get_path threading.current_thread threading.get_ident
    threading.main_thread time.monotonic types.MethodType types.SimpleNamespace types.TracebackType typing.Any
    typing.IO typing.Literal uuid.SafeUUID uuid.UUID warnings.catch_warnings warnings.simplefilter warnings.warn
    weakref.WeakKeyDictionary weakref.WeakSet weakref.finalize weakref.ref zlib.crc32
""".split())

C_INTERFACE = set("""
    PyBool_Type PyByteArray_AsString PyByteArray_FromStringAndSize PyByteArray_Size PyByteArray_Type
    PyBytes_AsStringAndSize PyBytes_FromStringAndSize PyBytes_Type PyCallable_Check PyCapsule_GetPointer
    PyCapsule_IsValid PyCapsule_New PyComplex_FromDoubles PyComplex_ImagAsDouble PyComplex_RealAsDouble
    PyComplex_Type PyDict_Check PyDict_CheckExact PyDict_GetItemWithError PyDict_New PyDict_Next PyDict_SetItem
    PyDict_Size PyDict_Type PyErr_CheckSignals PyErr_Clear PyErr_ExceptionMatches PyErr_Occurred PyErr_SetObject
    PyExc_MemoryError PyExc_UnicodeDecodeError PyExc_UnicodeEncodeError PyException_GetCause PyException_SetCause
    PyFloat_AsDouble PyFloat_Check PyFloat_FromDouble PyFloat_Type PyFrozenSet_New PyFrozenSet_Type PyGC_Disable
    PyGC_Enable PyImport_GetModuleDict PyList_Append PyList_Check PyList_GetItem PyList_New PyList_Size PyList_Type
    PyLong_AsLongLong PyLong_AsLongLongAndOverflow PyLong_AsVoidPtr PyLong_Check PyLong_CheckExact
    PyLong_FromLongLong PyLong_Type PyMapping_Items PyOS_FSPath PyObject_CallFunction PyObject_CallFunctionObjArgs
    PyObject_CallMethodObjArgs PyObject_CallNoArgs PyObject_GenericGetDict PyObject_GetAttr PyObject_Hash
    PyObject_IsTrue PyObject_SetAttr PyObject_SetItem PyObject_Str PyObject_Vectorcall PySequence_List PySet_New
    PySet_Type PyTuple_Check PyTuple_GetItem PyTuple_New PyTuple_SetItem PyTuple_Size PyTuple_Type
    PyUnicode_AsEncodedString PyUnicode_AsUTF8AndSize PyUnicode_Check PyUnicode_CheckExact
    PyUnicode_CompareWithASCIIString PyUnicode_DecodeFSDefaultAndSize PyUnicode_DecodeUTF8 PyUnicode_EncodeFSDefault
    PyUnicode_InternFromString PyUnicode_Type Py_DECREF Py_False Py_IsFinalizing Py_IsInitialized Py_LIMITED_API
    Py_None Py_REFCNT Py_TYPE Py_True Py_hash_t Py_ssize_t _PyObject_GetDictPtr _Py_IsFinalizing
""".split())


def used(tree):
    """The dotted names that a source takes out of the standard library's modules."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update({alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in modules:
            yield ".".join([node.id, *parts[:2 if node.id in ("os", "collections") else 1]])


def test_every_source_is_python_3_10():
    assert len(SOURCES) > 10
    for path in SOURCES:
        if path.suffix in (".py", ".pyi"):
            ast.parse(path.read_text(), feature_version=(3, 10))


def test_nothing_of_the_standard_library_is_newer():
    names = {name for path in SOURCES if path.suffix in (".py", ".pyi") for name in used(ast.parse(path.read_text()))
             if name.split(".")[0] in sys.stdlib_module_names}
    assert names - STANDARD == set()


@pytest.mark.skipif(not (ROOT / "python/src").exists(), reason="the sources are not here")
def test_nothing_of_the_c_interface_is_newer():
    names = set()
    for path in (ROOT / "python/src").iterdir():
        code = re.sub(r"#if PY_VERSION_HEX.*?#else", "", path.read_text(), flags=re.DOTALL)  # said by itself
        names |= set(re.findall(r"\b_?Py[A-Za-z]*_\w+", code))
    assert names - C_INTERFACE == set()
