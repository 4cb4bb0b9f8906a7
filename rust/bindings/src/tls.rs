//! Certificates: what is shown to clients, and what they have shown.

use penstock_core::certificate::CertificateFacts;
use penstock_engine::net::{Certificate, ClientCertificate, ClientCertificates, TlsSettings, TlsVersion};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::errors;

fn facts<'py>(py: Python<'py>, facts: &CertificateFacts) -> PyResult<Bound<'py, PyAny>> {
    let names = PyTuple::new(py, &facts.names)?;
    (&facts.subject, &facts.issuer, names, facts.not_before_s, facts.not_after_s).into_bound_py_any(py)
}

/// What a client has shown, with the fingerprint in hexadecimal digits.
pub(crate) fn client<'py>(py: Python<'py>, shown: &ClientCertificate) -> PyResult<Bound<'py, PyAny>> {
    let fingerprint: String = shown.fingerprint.iter().map(|octet| format!("{octet:02x}")).collect();
    (facts(py, &shown.facts)?, fingerprint).into_bound_py_any(py)
}

/// Reads certificates, each a chain with its key in PEM, and what else is asked in a handshake.
pub(crate) fn settings(
    certificates: &[(Vec<u8>, Vec<u8>)],
    minimum: &str,
    client_certificates: &str,
) -> PyResult<TlsSettings> {
    let certificates = certificates
        .iter()
        .enumerate()
        .map(|(number, (chain, key))| {
            Certificate::read(chain, key)
                .map_err(|error| Python::attach(|py| errors::certificate_unusable(py, number, &error)))
        })
        .collect::<PyResult<Vec<_>>>()?;
    if certificates.is_empty() {
        return Err(PyValueError::new_err("no certificate"));
    }
    let minimum = TlsVersion::from_number(minimum)
        .ok_or_else(|| PyValueError::new_err(format!("no version is called {minimum:?}")))?;
    let client_certificates = match client_certificates {
        "none" => ClientCertificates::None,
        "ask" => ClientCertificates::Ask,
        other => return Err(PyValueError::new_err(format!("clients are not asked {other:?}"))),
    };
    Ok(TlsSettings { certificates, minimum, client_certificates })
}

/// What a certificate says, if it can be used with its key.
#[pyfunction]
pub(crate) fn read_certificate<'py>(
    py: Python<'py>,
    chain: &[u8],
    key: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    let read = Certificate::read(chain, key);
    let certificate = read.map_err(|error| errors::certificate_unusable(py, 0, &error))?;
    let (says, length) = (facts(py, certificate.facts())?, certificate.chain_length());
    (says, length, certificate.facts().is_self_issued).into_bound_py_any(py)
}
